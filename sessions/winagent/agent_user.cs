// Part of the class in agent.cs: what users run in their sessions, and what they ask for.
public static partial class RdpBrokerAgent
{
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSEnumerateProcessesExW(IntPtr server, ref int level, int session, out IntPtr list, out int count);
    [DllImport("kernel32.dll", SetLastError = true)]
    static extern IntPtr OpenProcess(uint access, bool inherit, int pid);
    [DllImport("kernel32.dll", SetLastError = true)]
    static extern bool GetProcessIoCounters(IntPtr process, IntPtr counters);
    [DllImport("kernel32.dll")]
    static extern bool CloseHandle(IntPtr handle);
    [DllImport("advapi32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    static extern bool LookupAccountNameW(string system, string account, byte[] sid, ref int sidSize, StringBuilder domain, ref int domainSize, out int use);
    [DllImport("advapi32.dll", CharSet = CharSet.Unicode)]
    static extern int RegOpenKeyExW(IntPtr key, string path, int options, int access, out IntPtr opened);
    [DllImport("advapi32.dll", CharSet = CharSet.Unicode)]
    static extern int RegQueryValueExW(IntPtr key, string name, IntPtr reserved, out int type, byte[] data, ref int size);
    [DllImport("advapi32.dll")]
    static extern int RegQueryInfoKeyW(IntPtr key, IntPtr className, IntPtr classSize, IntPtr reserved, IntPtr keys, IntPtr longestKey,
        IntPtr longestClass, IntPtr values, IntPtr longestName, IntPtr longestValue, IntPtr security, out long written);
    [DllImport("advapi32.dll")]
    static extern int RegCloseKey(IntPtr key);

    // ---- processes

    sealed class Work // of a session's processes, those left out that every session has
    {
        public readonly SortedDictionary<string, bool> Names = new SortedDictionary<string, bool>(StringComparer.OrdinalIgnoreCase);
        public readonly List<int> Pids = new List<int>();
        public bool Whole; // we are shown what is not ours
        public long Cpu;
        public ulong Io;
        public bool HasIo;
    }

    const int MostNames = 256; // of one session

    // Programs that are in every session and work without anybody's work.
    static readonly string[] system = {
        "csrss.exe", "winlogon.exe", "dwm.exe", "fontdrvhost.exe", "logonui.exe", "rdpclip.exe", "explorer.exe", "sihost.exe",
        "taskhostw.exe", "ctfmon.exe", "runtimebroker.exe", "startmenuexperiencehost.exe", "searchhost.exe", "searchui.exe",
        "searchapp.exe", "shellexperiencehost.exe", "textinputhost.exe", "conhost.exe", "smartscreen.exe" };

    // What has been told of each session's programs, by Session.Key: their names.
    static Dictionary<string, string> toldNames = new Dictionary<string, string>();

    static bool blind; // that they cannot be read has been told

    // ReadWork sums up the processes of each session; null if they cannot be read.
    static Dictionary<int, Work> ReadWork(List<Session> sessions)
    {
        IntPtr list;
        int level = 1, count, p = IntPtr.Size;
        try
        {
            if (!WTSEnumerateProcessesExW(IntPtr.Zero, ref level, -2, out list, out count)) // WTS_ANY_SESSION
            {
                if (!blind) Fail("WTSEnumerateProcessesEx", Marshal.GetLastWin32Error(), null);
                blind = true;
                return null;
            }
        }
        catch (EntryPointNotFoundException) { return null; }
        Dictionary<int, Work> all = new Dictionary<int, Work>();
        long scale = 1;
        try
        {
            int counters = 8 + 2 * p; // after SessionId, ProcessId, name, SID
            for (int i = 0; i < count; i++) // WTS_PROCESS_INFO_EXW
            {
                IntPtr e = new IntPtr(list.ToInt64() + (long)i * (counters + 6 * 4 + 2 * 8));
                int session = Marshal.ReadInt32(e, 0), pid = Marshal.ReadInt32(e, 4);
                string name = Wide(Marshal.ReadIntPtr(e, 8));
                long cpu = Marshal.ReadInt64(e, counters + 24) + Marshal.ReadInt64(e, counters + 32);
                if (pid == ownPid) scale = Scale(cpu);
                if (pid == 0 || session < 1 || name == "") continue;
                Work w;
                if (!all.TryGetValue(session, out w)) all[session] = w = new Work();
                // These two are SYSTEM's and in each session. Whoever is not shown them
                // is shown nothing of others, and takes their work for none.
                if (Same(name, "csrss.exe") || Same(name, "winlogon.exe")) w.Whole = true;
                if (Array.IndexOf(system, name.ToLowerInvariant()) >= 0) continue;
                if (w.Names.Count <= MostNames) w.Names[name.Length > 100 ? name.Substring(0, 100) : name] = true;
                w.Pids.Add(pid);
                w.Cpu += cpu;
            }
        }
        finally { WTSFreeMemoryExW(1, list, count); } // WTSTypeProcessInfoLevel1
        foreach (Work w in all.Values) w.Cpu *= scale;
        foreach (Session s in sessions)
            if (s.State == Disconnected && all.ContainsKey(s.Id)) SumIo(all[s.Id]);
        return all;
    }

    static readonly int ownPid = Process.GetCurrentProcess().Id;

    // Scale is by how much Windows' times of processes must be multiplied to be in
    // units of 100 ns. They look like such; the documentation says milliseconds. What
    // we have used ourselves, since we were compiled, tells.
    static long Scale(long mine)
    {
        using (Process p = Process.GetCurrentProcess()) return mine > 0 && p.TotalProcessorTime.Ticks / mine > 100 ? 10000 : 1;
    }

    // SumIo adds up bytes read and written, of the processes that we may ask.
    static void SumIo(Work w)
    {
        IntPtr io = Marshal.AllocHGlobal(48); // IO_COUNTERS
        try
        {
            foreach (int pid in w.Pids)
            {
                IntPtr h = OpenProcess(0x1000, false, pid); // PROCESS_QUERY_LIMITED_INFORMATION
                if (h == IntPtr.Zero) continue;
                if (GetProcessIoCounters(h, io))
                {
                    w.Io += (ulong)Marshal.ReadInt64(io, 24) + (ulong)Marshal.ReadInt64(io, 32);
                    w.HasIo = true;
                }
                CloseHandle(h);
            }
        }
        catch (EntryPointNotFoundException) { }
        catch (DllNotFoundException) { }
        finally { Marshal.FreeHGlobal(io); }
    }

    // WorkLine tells what has changed: names where they are others than before, sums of
    // disconnected sessions, and of whom nothing can be seen any more.
    static Line WorkLine(List<Session> list, Dictionary<int, Work> work, long began, string hash)
    {
        Dictionary<string, string> told = new Dictionary<string, string>();
        StringBuilder b = new StringBuilder("[");
        foreach (Session s in list)
        {
            if (s.Id < 1 || s.Id >= FirstListener || s.User == "" || s.Logon <= 0) continue;
            string before, key = s.Key();
            toldNames.TryGetValue(key, out before);
            Line l = new Line().Number("id", s.Id).Number("logon", s.Logon);
            Work w = null;
            if (work != null) work.TryGetValue(s.Id, out w);
            if (w == null || !w.Whole || w.Names.Count > MostNames)
            {
                if (before == null) continue;
                l.Flag("unread", true);
            }
            else
            {
                Line names = new Line('[', ']');
                foreach (string n in w.Names.Keys) names.Item(n);
                told[key] = names.ToString();
                if (told[key] == before && s.State != Disconnected) continue;
                if (told[key] != before) l.Raw("procs", told[key]);
                if (s.State == Disconnected) l.Number("cpu", w.Cpu);
                if (w.HasIo) l.Raw("io", w.Io.ToString(CultureInfo.InvariantCulture));
            }
            if (b.Length > 1) b.Append(',');
            b.Append(l);
        }
        toldNames = told;
        return new Line("work").Number("seq", ++sequence).Number("up", began).Number("now", HostTime(list)).Text("hash", hash)
            .Raw("sessions", b.Append(']').ToString());
    }

    // ---- the user's own marker: HKEY_CURRENT_USER\Software\rdpbroker, value Keep
    //
    // A registry value and not a file: a file's path can be made to lead to another
    // computer, which would see our account log on. Nothing of it is told but a short
    // text of type REG_SZ, and the time when its key was last written.

    const int MostMarker = 16; // characters

    // By DOMAIN\user; null: being looked up; "": not found. Under strangers' lock, as strangers are.
    static readonly Dictionary<string, string> sids = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
    static readonly Queue<string> strangers = new Queue<string>();
    static readonly AutoResetEvent stranger = new AutoResetEvent(false);

    static void ReadMarker(Session s)
    {
        if (s.User == "" || s.Logon <= 0) return;
        string sid = SidOf(s.Domain == "" ? s.User : s.Domain + "\\" + s.User);
        s.Pending = sid == null;
        IntPtr key;
        try
        {
            // HKEY_USERS, KEY_QUERY_VALUE. Not ours to read, not there: there is no marker.
            if (s.Pending || sid == "" || RegOpenKeyExW(new IntPtr(unchecked((int)0x80000003)), sid + "\\Software\\rdpbroker", 0, 1, out key) != 0) return;
        }
        catch (DllNotFoundException) { return; }
        try
        {
            byte[] data = new byte[2 * MostMarker];
            int type, size = data.Length;
            int error = RegQueryValueExW(key, "Keep", IntPtr.Zero, out type, data, ref size);
            if (error != 0 && error != 234) return; // ERROR_MORE_DATA: too long to be an answer
            if (RegQueryInfoKeyW(key, IntPtr.Zero, IntPtr.Zero, IntPtr.Zero, IntPtr.Zero, IntPtr.Zero, IntPtr.Zero, IntPtr.Zero,
                IntPtr.Zero, IntPtr.Zero, IntPtr.Zero, out s.Marked) != 0) return;
            s.Keep = error == 0 && type == 1 ? Encoding.Unicode.GetString(data, 0, size & ~1).TrimEnd('\0') : "?"; // REG_SZ
        }
        finally { RegCloseKey(key); }
    }

    // SidOf is the security identifier of an account, see sids.
    static string SidOf(string account)
    {
        lock (strangers)
        {
            string sid;
            if (sids.TryGetValue(account, out sid)) return sid;
            sids[account] = null;
            strangers.Enqueue(account);
        }
        stranger.Set();
        return null;
    }

    // LookUpAccounts asks for those that are not known. It may have to wait for a domain
    // controller, which nothing else must. What was not found is asked for again after a
    // while.
    static void LookUpAccounts()
    {
        long again = 600000;
        for (; stop == null; stranger.WaitOne(60000))
        {
            bool any = false;
            for (string account = NextStranger(); account != null; account = NextStranger())
            {
                string sid = LookUp(account);
                lock (strangers) sids[account] = sid;
                any = true;
            }
            if (any) wake.Set();
            if (clock.ElapsedMilliseconds < again) continue;
            again = clock.ElapsedMilliseconds + 600000;
            lock (strangers)
                foreach (string account in new List<string>(sids.Keys)) if (sids[account] == "") strangers.Enqueue(account);
        }
    }

    static string NextStranger()
    {
        lock (strangers) return strangers.Count > 0 ? strangers.Dequeue() : null;
    }

    static string LookUp(string account)
    {
        byte[] sid = new byte[68]; // SECURITY_MAX_SID_SIZE
        StringBuilder domain = new StringBuilder(256);
        int size = sid.Length, room = domain.Capacity, use;
        try
        {
            return LookupAccountNameW(null, account, sid, ref size, domain, ref room, out use) ? new SecurityIdentifier(sid, 0).Value : "";
        }
        catch (DllNotFoundException) { return ""; }
    }
}
