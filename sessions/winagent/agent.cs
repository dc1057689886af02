// The part of rdpbroker that runs on a Windows host. It is sent over and compiled
// when the broker connects; nothing is installed and nothing stays.
//
// Written for the compiler of .NET 4 that Windows PowerShell's Add-Type uses: C# 5,
// references mscorlib and System only, no warnings (Add-Type takes them for errors).
//
// It prints JSON lines in ASCII, so that no code page matters, and reads commands,
// one a line, words parted by blanks, names as base64 of UTF-8:
//   start KEY=SECONDS ...                                   first, once
//   ping REQ
//   snapshot REQ
//   logoff REQ ID LOGON DISCONNECT DOMAIN USER SECONDS      times as FILETIME
//   quit
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Runtime.InteropServices;
using System.Security.Principal;
using System.Text;
using System.Threading;
using Microsoft.Win32;

public static class RdpBrokerAgent
{
    const int Protocol = 1;
    const string Version = "1";
    const int FirstListener = 65536; // IDs from here on are listeners, never anybody's session

    // WTS_INFO_CLASS
    const int InitialProgram = 0, SessionId = 4, UserName = 5, DomainName = 7, ClientName = 10, ClientAddress = 14, SessionInfoEx = 25;
    // WTS_CONNECTSTATE_CLASS
    const int Active = 0, Connected = 1, ConnectQuery = 2, Disconnected = 4, Idle = 5, Listen = 6;
    const int FileNotFound = 2, WinStationNotFound = 7022; // what a query of a vanished session fails with

    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSEnumerateSessionsExW(IntPtr server, ref int level, int filter, out IntPtr list, out int count);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSEnumerateProcessesExW(IntPtr server, ref int level, int session, out IntPtr list, out int count);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSFreeMemoryExW(int type, IntPtr list, int count);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSQuerySessionInformationW(IntPtr server, int id, int what, out IntPtr data, out int size);
    [DllImport("wtsapi32.dll")]
    static extern void WTSFreeMemory(IntPtr data);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSLogoffSession(IntPtr server, int id, bool wait);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSWaitSystemEvent(IntPtr server, uint mask, out uint flags);
    [DllImport("kernel32.dll")]
    static extern int WTSGetActiveConsoleSessionId();
    [DllImport("kernel32.dll", SetLastError = true)]
    static extern IntPtr OpenProcess(uint access, bool inherit, int pid);
    [DllImport("kernel32.dll", SetLastError = true)]
    static extern bool GetProcessIoCounters(IntPtr process, IntPtr counters);
    [DllImport("kernel32.dll")]
    static extern bool CloseHandle(IntPtr handle);
    [DllImport("shell32.dll")]
    static extern bool IsUserAnAdmin();

    sealed class Session
    {
        public int Id, State;
        public string Name = "", User = "", Domain = "", Client = "", Address = "", Program = "";
        public long Logon, Disconnect, Input, Now;
        public int Error; // why its details could not be read, a Win32 code; 0: they were
        public bool IsConsole() { return string.Equals(Name, "Console", StringComparison.OrdinalIgnoreCase); }
    }

    sealed class Work // of a session's processes
    {
        public readonly SortedDictionary<string, bool> Names = new SortedDictionary<string, bool>(StringComparer.OrdinalIgnoreCase);
        public readonly List<int> Pids = new List<int>();
        public long Cpu;
        public ulong Io;
        public bool HasIo;
    }

    static readonly object output = new object();
    static readonly Stopwatch clock = Stopwatch.StartNew();
    static readonly AutoResetEvent wake = new AutoResetEvent(false);
    static readonly Queue<string> asked = new Queue<string>(); // snapshots
    static Stream stdout;
    static long sequence, heard, stopAt;
    static volatile string stop; // why to end; null: go on
    static volatile bool signalled;
    static int own, logoffs;
    static double beat = 15, poll = 5, silence = 90, processes = 0; // seconds

    // ---- the life of the agent

    public static int Run(string languageMode)
    {
        stdout = Console.OpenStandardOutput();
        try
        {
            string first = Console.In.ReadLine();
            if (first == null) return 5;
            Configure(first);
            own = OwnSession();
            Hello(languageMode);
            heard = clock.ElapsedMilliseconds;
            Background("commands", ReadCommands);
            Background("events", WaitForEvents);
            Background("watchdog", Watchdog);
            Watch();
            Write(new Line("bye").Text("why", stop));
            uint flags;
            try { WTSWaitSystemEvent(IntPtr.Zero, 0x80000000, out flags); } catch (Exception) { } // WTS_EVENT_FLUSH
            return 0;
        }
        catch (IOException) { return 6; } // nobody reads any more
    }

    static void Background(string name, ThreadStart body)
    {
        Thread t = new Thread(delegate()
        {
            try { body(); }
            catch (Exception e)
            {
                if (stop != null) return; // threads are aborted at the end
                Fail(name, 0, e.ToString());
                Stop("broken");
            }
        });
        t.IsBackground = true;
        t.Name = name;
        t.Start();
    }

    static void Stop(string why)
    {
        if (stop != null) return;
        Interlocked.CompareExchange(ref stopAt, clock.ElapsedMilliseconds, 0);
        stop = why;
        wake.Set();
    }

    // Watchdog ends the agent when the broker is not heard any more, whatever the
    // other threads are stuck in: a full pipe, a call that does not return.
    static void Watchdog()
    {
        for (; ; Thread.Sleep(200))
        {
            long now = clock.ElapsedMilliseconds;
            if (stop == null && now - Interlocked.Read(ref heard) > silence * 1000) Stop("silence");
            if (stop != null && now - Interlocked.Read(ref stopAt) > 3000) Process.GetCurrentProcess().Kill();
        }
    }

    static void Configure(string line)
    {
        foreach (string word in line.Split(' '))
        {
            int eq = word.IndexOf('=');
            double v;
            if (eq < 0 || !double.TryParse(word.Substring(eq + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out v)) continue;
            switch (word.Substring(0, eq))
            {
                case "beat": beat = v; break;
                case "poll": poll = v; break;
                case "silence": silence = v; break;
                case "processes": processes = v; break; // 0: not read
            }
        }
    }

    static void Hello(string languageMode)
    {
        Line l = new Line("hello").Number("v", Protocol).Text("agent", Version).Text("mode", languageMode)
            .Text("host", Environment.MachineName).Text("os", Environment.OSVersion.VersionString)
            .Number("pid", Process.GetCurrentProcess().Id).Number("own", own).Number("bits", IntPtr.Size * 8);
        try { l.Text("as", WindowsIdentity.GetCurrent().Name); } catch (Exception) { }
        try { l.Flag("admin", IsUserAnAdmin()); } catch (Exception) { } // left out: not known
        Write(l);
    }

    // Watch reads the sessions again and again and tells what has changed.
    static void Watch()
    {
        string told = null; // hash of the last state sent
        long next = 0, said = 0, closelyUntil = 0, factsAt = long.MinValue, workAt = long.MinValue;
        string facts = "{}";
        Dictionary<int, Work> work = null;
        while (stop == null)
        {
            bool polled = !wake.WaitOne((int)Math.Max(0, next - clock.ElapsedMilliseconds));
            if (stop != null) return;
            bool signal = signalled;
            signalled = false;
            string request = NextRequest();
            long began = clock.ElapsedMilliseconds;
            try
            {
                if (request != null || began >= factsAt + 60000 || factsAt == long.MinValue) { facts = Facts(); factsAt = began; }
                List<Session> list = Sessions();
                bool sampled = processes > 0 && (workAt == long.MinValue || began >= workAt + processes * 1000);
                if (sampled) { work = ReadWork(list); workAt = began; }
                string hash = Hash(list, facts);
                if (hash != told || request != null || sampled)
                {
                    string why = told == null ? "start" : request != null ? "asked" : hash == told ? "processes" : signal ? "event" : polled ? "poll" : "change";
                    Write(State(list, work, facts, began, hash, why, request));
                    told = hash;
                    said = began;
                }
                else if (began >= said + beat * 1000)
                {
                    Write(new Line("beat").Number("seq", ++sequence).Number("up", began).Number("now", HostTime(list)).Text("hash", hash));
                    said = began;
                }
            }
            catch (WtsException e) { Fail(e.What, e.Code, null); }
            if (asked.Count > 0) wake.Set();
            // One logon makes several events, and those that come while nobody waits
            // are lost: after an event the sessions are looked at more closely.
            if (signal) { closelyUntil = began + 3000; Thread.Sleep(50); }
            next = began + (long)(Math.Min(poll, beat) * 1000);
            if (began < closelyUntil) next = Math.Min(next, began + 300);
        }
    }

    static string NextRequest()
    {
        lock (asked) return asked.Count > 0 ? asked.Dequeue() : null;
    }

    // WaitForEvents wakes Watch. An event names no session, and those between two
    // calls are lost: it is a hint, the poll stands behind it.
    static void WaitForEvents()
    {
        int failures = 0;
        while (stop == null)
        {
            uint flags;
            if (WTSWaitSystemEvent(IntPtr.Zero, 0x7fffffff, out flags)) // WTS_EVENT_ALL
            {
                signalled = true;
                wake.Set();
                if (flags == 0) Thread.Sleep(50); // nothing, again and again perhaps
                continue;
            }
            if (failures++ == 0) Fail("WTSWaitSystemEvent", Marshal.GetLastWin32Error(), null);
            Thread.Sleep(5000);
        }
    }

    static void ReadCommands()
    {
        for (; ; )
        {
            string line = Console.In.ReadLine();
            if (line == null) { Stop("stdin"); return; }
            Interlocked.Exchange(ref heard, clock.ElapsedMilliseconds);
            string[] w = line.Trim().Split(' ');
            if (w[0] == "ping" && w.Length == 2) Write(new Line("pong").Text("req", w[1]).Number("up", clock.ElapsedMilliseconds));
            else if (w[0] == "snapshot" && w.Length == 2) { lock (asked) asked.Enqueue(w[1]); wake.Set(); }
            else if (w[0] == "logoff" && w.Length == 8) Background("logoff", delegate() { Logoff(w); });
            else if (w[0] == "quit") { Stop("quit"); return; }
            else if (w[0] != "") Fail("command " + w[0], 0, "not understood");
        }
    }

    // ---- logging off

    // Logoff ends one session if it is still exactly the one described. Nothing waits
    // between the last look and WTSLogoffSession.
    static void Logoff(string[] w)
    {
        string request = w[1];
        int id = 0;
        long logon = 0, disconnect = 0, seconds = 0;
        string domain = null, user = null;
        try
        {
            id = int.Parse(w[2], CultureInfo.InvariantCulture);
            logon = long.Parse(w[3], CultureInfo.InvariantCulture);
            disconnect = long.Parse(w[4], CultureInfo.InvariantCulture);
            domain = FromBase64(w[5]);
            user = FromBase64(w[6]);
            seconds = long.Parse(w[7], CultureInfo.InvariantCulture);
        }
        catch (FormatException) { Refuse(request, id, "malformed", 0); return; }
        catch (OverflowException) { Refuse(request, id, "malformed", 0); return; }

        if (id < 1 || id >= FirstListener) { Refuse(request, id, "bad-id", 0); return; }
        if (id == own) { Refuse(request, id, "own-session", 0); return; }
        if (id == ConsoleSession()) { Refuse(request, id, "console", 0); return; }
        if (user == "" || logon <= 0 || disconnect <= 0) { Refuse(request, id, "not-described", 0); return; }
        if (Interlocked.Increment(ref logoffs) > 8) { Interlocked.Decrement(ref logoffs); Refuse(request, id, "busy", 0); return; }
        try
        {
            int code;
            string why = CompareAndLogOff(id, logon, disconnect, domain, user, out code);
            if (why != null) { Refuse(request, id, why, code); return; }
            wake.Set();
            AwaitGone(request, id, logon, user, seconds);
        }
        finally { Interlocked.Decrement(ref logoffs); }
    }

    // CompareAndLogOff returns why it did nothing, or null. The mutex keeps agents of
    // several brokers from judging by a state that another of them is changing.
    static string CompareAndLogOff(int id, long logon, long disconnect, string domain, string user, out int code)
    {
        code = 0;
        Mutex one;
        try { one = new Mutex(false, "Global\\rdpbroker-logoff"); }
        catch (UnauthorizedAccessException) { return "locked"; } // an agent that runs as somebody else
        using (one)
        {
            bool held;
            try { held = one.WaitOne(5000); }
            catch (AbandonedMutexException) { held = true; }
            if (!held) return "locked";
            try
            {
                Session s = new Session();
                s.Id = id;
                Describe(s);
                code = s.Error;
                if (code == FileNotFound || code == WinStationNotFound) return "gone";
                if (code != 0) return "unreadable";
                if (s.IsConsole()) return "console";
                if (!Same(s.User, user) || !Same(s.Domain, domain)) return "other-user";
                if (s.Logon != logon) return "logged-on-anew";
                if (s.State == Active) return "connected";
                if (s.State != Disconnected) { code = s.State; return "state"; }
                if (s.Disconnect != disconnect) return "was-connected";
                if (!WTSLogoffSession(IntPtr.Zero, id, false)) { code = Marshal.GetLastWin32Error(); return "logoff-failed"; }
                return null;
            }
            finally { one.ReleaseMutex(); }
        }
    }

    // AwaitGone tells how the logoff goes on, and its end: gone, or stuck when the
    // seconds are over.
    static void AwaitGone(string request, int id, long logon, string user, long seconds)
    {
        long began = clock.ElapsedMilliseconds, told = began;
        int state = Disconnected;
        Write(Answer(request, id, "going").Number("state", state));
        for (; ; )
        {
            long now = clock.ElapsedMilliseconds;
            Session s = new Session();
            s.Id = id;
            Describe(s);
            if (s.Error == FileNotFound || s.Error == WinStationNotFound ? !Listed(id) : s.Error == 0 && IsAnother(s, logon, user))
            {
                Write(Answer(request, id, "gone").Number("ms", now - began));
                wake.Set();
                return;
            }
            bool changed = s.Error == 0 && s.State != state;
            if (s.Error == 0) state = s.State;
            if (now - began >= seconds * 1000)
            {
                Write(Answer(request, id, "stuck").Number("state", state).Number("code", s.Error));
                return;
            }
            if (changed || now - told >= 5000)
            {
                Write(Answer(request, id, "going").Number("state", state));
                told = now;
            }
            Thread.Sleep(now - began < 5000 ? 100 : 1000);
        }
    }

    // IsAnother: the ID belongs to another session by now. One that has lost its user
    // or its logon time on the way down is still the same.
    static bool IsAnother(Session s, long logon, string user)
    {
        if (s.Logon > 0) return s.Logon != logon;
        return s.User == "" && (s.State == Connected || s.State == ConnectQuery || s.State == Idle || s.State == Active);
    }

    static bool Listed(int id)
    {
        try
        {
            foreach (Session s in Enumerate()) if (s.Id == id) return true;
            return false;
        }
        catch (WtsException) { return true; } // not known to be gone
    }

    static void Refuse(string request, int id, string why, int code)
    {
        Write(Answer(request, id, "refused").Text("why", why).Number("code", code));
    }

    static Line Answer(string request, int id, string result)
    {
        return new Line("logoff").Text("req", request).Number("id", id).Number("up", clock.ElapsedMilliseconds).Text("result", result);
    }

    static bool Same(string a, string b) { return string.Equals(a, b, StringComparison.OrdinalIgnoreCase); }
    static string FromBase64(string s) { return s == "-" ? "" : Encoding.UTF8.GetString(Convert.FromBase64String(s)); }

    // ---- reading the host

    sealed class WtsException : Exception
    {
        public readonly string What;
        public readonly int Code;
        public WtsException(string what, int code) { What = what; Code = code; }
    }

    // Enumerate is WTSEnumerateSessionsEx, level 1: WTS_SESSION_INFO_1W by offsets.
    static List<Session> Enumerate()
    {
        IntPtr list;
        int level = 1, count, p = IntPtr.Size;
        if (!WTSEnumerateSessionsExW(IntPtr.Zero, ref level, 0, out list, out count))
            throw new WtsException("WTSEnumerateSessionsEx", Marshal.GetLastWin32Error());
        try
        {
            List<Session> all = new List<Session>(count);
            int strings = p == 8 ? 16 : 12; // ExecEnvId, State, SessionId, then five pointers
            for (int i = 0; i < count; i++)
            {
                IntPtr e = new IntPtr(list.ToInt64() + (long)i * (strings + 5 * p));
                Session s = new Session();
                s.State = Marshal.ReadInt32(e, 4);
                s.Id = Marshal.ReadInt32(e, 8);
                s.Name = Wide(Marshal.ReadIntPtr(e, strings));
                s.User = Wide(Marshal.ReadIntPtr(e, strings + 2 * p));
                s.Domain = Wide(Marshal.ReadIntPtr(e, strings + 3 * p));
                all.Add(s);
            }
            return all;
        }
        finally { WTSFreeMemoryExW(2, list, count); } // WTSTypeSessionInfoLevel1
    }

    static List<Session> Sessions()
    {
        List<Session> all = new List<Session>();
        foreach (Session s in Enumerate())
        {
            if (s.Id >= 0 && s.Id < FirstListener && s.State != Listen)
            {
                Describe(s);
                if (s.Error == FileNotFound || s.Error == WinStationNotFound) continue; // gone since
                if (s.Id != 0) Extras(s);
            }
            all.Add(s);
        }
        all.Sort(delegate(Session a, Session b) { return a.Id.CompareTo(b.Id); });
        return all;
    }

    // Describe reads account, times and state. The last call is the one that reads
    // state and times. Its names are cut at 20 and 17 characters, so the long ones are
    // taken from before, if they are of the same account.
    static void Describe(Session s)
    {
        string user = Text(s.Id, UserName), domain = Text(s.Id, DomainName);
        IntPtr d;
        int size;
        s.Error = 0;
        if (!WTSQuerySessionInformationW(IntPtr.Zero, s.Id, SessionInfoEx, out d, out size))
        {
            s.Error = Marshal.GetLastWin32Error();
            if (s.Error == 0) s.Error = -1;
            return;
        }
        try // WTSINFOEXW, the same on 32 and 64 bits
        {
            if (size < 208 || Marshal.ReadInt32(d, 0) != 1 || Marshal.ReadInt32(d, 8) != s.Id) { s.Error = -1; return; }
            s.State = Marshal.ReadInt32(d, 12);
            string name = Wide(d, 20, 33);
            if (name != "") s.Name = name;
            s.User = Longer(Wide(d, 86, 21), user, 20);
            s.Domain = Longer(Wide(d, 128, 18), domain, 17);
            s.Logon = Marshal.ReadInt64(d, 168);
            s.Disconnect = Marshal.ReadInt64(d, 184);
            s.Input = Marshal.ReadInt64(d, 192);
            s.Now = Marshal.ReadInt64(d, 200);
        }
        finally { WTSFreeMemory(d); }
    }

    static string Longer(string cut, string whole, int room)
    {
        return cut.Length == room && whole.StartsWith(cut, StringComparison.OrdinalIgnoreCase) ? whole : cut;
    }

    static void Extras(Session s)
    {
        s.Client = Text(s.Id, ClientName);
        s.Program = Text(s.Id, InitialProgram);
        IntPtr d;
        int size;
        if (!WTSQuerySessionInformationW(IntPtr.Zero, s.Id, ClientAddress, out d, out size)) return;
        if (size >= 24 && Marshal.ReadInt32(d) == 2) // AF_INET: bytes 2 to 5 of the address
            s.Address = string.Format(CultureInfo.InvariantCulture, "{0}.{1}.{2}.{3}",
                Marshal.ReadByte(d, 6), Marshal.ReadByte(d, 7), Marshal.ReadByte(d, 8), Marshal.ReadByte(d, 9));
        WTSFreeMemory(d);
    }

    static string Text(int id, int what)
    {
        IntPtr d;
        int size;
        if (!WTSQuerySessionInformationW(IntPtr.Zero, id, what, out d, out size)) return "";
        string s = Wide(d);
        WTSFreeMemory(d);
        return s;
    }

    static int OwnSession()
    {
        IntPtr d;
        int size, id = -1;
        if (!WTSQuerySessionInformationW(IntPtr.Zero, -1, SessionId, out d, out size)) return -1; // WTS_CURRENT_SESSION
        if (size >= 4) id = Marshal.ReadInt32(d);
        WTSFreeMemory(d);
        return id;
    }

    static int ConsoleSession()
    {
        try { return WTSGetActiveConsoleSessionId(); } catch (Exception) { return -1; }
    }

    static string Wide(IntPtr p) { return p == IntPtr.Zero ? "" : Marshal.PtrToStringUni(p); }

    static string Wide(IntPtr p, int offset, int room)
    {
        StringBuilder b = new StringBuilder(room);
        for (int i = 0; i < room; i++)
        {
            char c = (char)Marshal.ReadInt16(p, offset + 2 * i);
            if (c == 0) break;
            b.Append(c);
        }
        return b.ToString();
    }

    // ---- processes

    // Programs that are in every session and work without anybody's work.
    static readonly string[] system = {
        "csrss.exe", "winlogon.exe", "dwm.exe", "fontdrvhost.exe", "logonui.exe", "rdpclip.exe", "explorer.exe", "sihost.exe",
        "taskhostw.exe", "ctfmon.exe", "runtimebroker.exe", "startmenuexperiencehost.exe", "searchhost.exe", "searchui.exe",
        "searchapp.exe", "shellexperiencehost.exe", "textinputhost.exe", "conhost.exe", "smartscreen.exe" };

    // ReadWork sums up the processes of each session; null if they cannot be read.
    static Dictionary<int, Work> ReadWork(List<Session> sessions)
    {
        IntPtr list;
        int level = 1, count, p = IntPtr.Size;
        try
        {
            if (!WTSEnumerateProcessesExW(IntPtr.Zero, ref level, -2, out list, out count)) return null; // WTS_ANY_SESSION
        }
        catch (EntryPointNotFoundException) { return null; }
        Dictionary<int, Work> all = new Dictionary<int, Work>();
        try
        {
            int counters = 8 + 2 * p; // after SessionId, ProcessId, name, SID
            for (int i = 0; i < count; i++) // WTS_PROCESS_INFO_EXW
            {
                IntPtr e = new IntPtr(list.ToInt64() + (long)i * (counters + 6 * 4 + 2 * 8));
                int session = Marshal.ReadInt32(e, 0), pid = Marshal.ReadInt32(e, 4);
                string name = Wide(Marshal.ReadIntPtr(e, 8));
                if (pid == 0 || session < 1 || name == "") continue;
                Work w;
                if (!all.TryGetValue(session, out w)) all[session] = w = new Work();
                if (w.Names.Count < 64) w.Names[name] = true;
                if (Array.IndexOf(system, name.ToLowerInvariant()) >= 0) continue;
                w.Pids.Add(pid);
                w.Cpu += Marshal.ReadInt64(e, counters + 24) + Marshal.ReadInt64(e, counters + 32);
            }
        }
        finally { WTSFreeMemoryExW(1, list, count); } // WTSTypeProcessInfoLevel1
        foreach (Session s in sessions)
            if (s.State == Disconnected && all.ContainsKey(s.Id)) SumIo(all[s.Id]);
        return all;
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

    // ---- facts of the host, as its registry has them; what they mean is the broker's business

    static string Facts()
    {
        const string ts = "SYSTEM\\CurrentControlSet\\Control\\Terminal Server", windows = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion";
        string[] limits = { "MaxInstanceCount", "MaxDisconnectionTime", "MaxIdleTime", "MaxConnectionTime", "fResetBroken", "fSingleSessionPerUser", "fDenyTSConnections",
            "fInheritMaxDisconnectionTime", "fInheritMaxIdleTime", "fInheritMaxSessionTime", "fEnableWinStation" };
        Line l = new Line();
        Values(l, "policy", "SOFTWARE\\Policies\\Microsoft\\Windows NT\\Terminal Services", limits);
        Values(l, "rdptcp", ts + "\\WinStations\\RDP-Tcp", limits);
        Values(l, "ts", ts, "fSingleSessionPerUser", "fDenyTSConnections", "TSServerDrainMode", "TSAppCompat", "TSUserEnabled");
        Values(l, "winlogon", windows + "\\Winlogon", "WinStationsDisabled");
        Values(l, "product", "SYSTEM\\CurrentControlSet\\Control\\ProductOptions", "ProductType");
        Values(l, "windows", windows, "ProductName", "CurrentVersion", "CurrentMajorVersionNumber", "CurrentMinorVersionNumber", "CurrentBuildNumber", "UBR");
        return l.ToString();
    }

    static void Values(Line l, string name, string path, params string[] values)
    {
        Line found = new Line();
        try
        {
            RegistryView view = Environment.Is64BitOperatingSystem ? RegistryView.Registry64 : RegistryView.Default;
            using (RegistryKey root = RegistryKey.OpenBaseKey(RegistryHive.LocalMachine, view))
            using (RegistryKey key = root.OpenSubKey(path))
            {
                if (key == null) return;
                foreach (string v in values)
                {
                    object o = key.GetValue(v);
                    if (o is int) found.Number(v, unchecked((uint)(int)o)); // REG_DWORD
                    else if (o is string) found.Text(v, (string)o);
                }
            }
        }
        catch (Exception e) // no right to read this key
        {
            if (!(e is UnauthorizedAccessException || e is System.Security.SecurityException || e is IOException)) throw;
            return;
        }
        l.Raw(name, found.ToString());
    }

    // ---- writing

    static Line State(List<Session> list, Dictionary<int, Work> work, string facts, long began, string hash, string why, string request)
    {
        StringBuilder b = new StringBuilder("[");
        foreach (Session s in list)
        {
            Line l = new Line().Number("id", s.Id).Number("state", s.State).Text("name", s.Name).Text("user", s.User).Text("domain", s.Domain)
                .Number("logon", s.Logon).Number("disc", s.Disconnect).Number("input", s.Input)
                .Text("client", s.Client).Text("addr", s.Address).Text("program", s.Program).Number("error", s.Error);
            Work w;
            if (work != null && work.TryGetValue(s.Id, out w))
            {
                Line names = new Line('[', ']');
                foreach (string n in w.Names.Keys) names.Item(n);
                l.Raw("procs", names.ToString()).Number("cpu", w.Cpu);
                if (w.HasIo) l.Raw("io", w.Io.ToString(CultureInfo.InvariantCulture));
            }
            if (b.Length > 1) b.Append(',');
            b.Append(l);
        }
        Line state = new Line("state").Number("seq", ++sequence).Number("up", began).Number("now", HostTime(list)).Text("why", why).Text("hash", hash);
        if (request != null) state.Text("req", request);
        return state.Number("console", ConsoleSession()).Raw("facts", facts).Raw("sessions", b.Append(']').ToString());
    }

    // HostTime is the CurrentTime of a session's own record, in which its other times are.
    static long HostTime(List<Session> list)
    {
        foreach (Session s in list) if (s.Now > 0) return s.Now;
        return DateTime.UtcNow.ToFileTimeUtc();
    }

    // Hash is over what makes a state another one: not over clocks and last inputs.
    static string Hash(List<Session> list, string facts)
    {
        StringBuilder b = new StringBuilder(facts);
        foreach (Session s in list)
            b.Append('\n').Append(s.Id).Append('\t').Append(s.State).Append('\t').Append(s.Name).Append('\t').Append(s.User).Append('\t').Append(s.Domain)
                .Append('\t').Append(s.Logon).Append('\t').Append(s.Disconnect).Append('\t').Append(s.Client).Append('\t').Append(s.Address)
                .Append('\t').Append(s.Program).Append('\t').Append(s.Error);
        ulong h = 14695981039346656037; // FNV-1a
        for (int i = 0; i < b.Length; i++) h = unchecked((h ^ b[i]) * 1099511628211);
        return h.ToString("x16", CultureInfo.InvariantCulture);
    }

    static void Fail(string what, int code, string text)
    {
        Line l = new Line("error").Text("what", what).Number("code", code);
        if (text != null) l.Text("text", text.Length > 500 ? text.Substring(0, 500) : text);
        Write(l);
    }

    static void Write(Line l)
    {
        byte[] b = Encoding.ASCII.GetBytes(l + "\n");
        try
        {
            lock (output) { stdout.Write(b, 0, b.Length); stdout.Flush(); }
        }
        catch (IOException) { Stop("stdout"); }
    }

    // Line is a JSON object (or array) under construction, in ASCII.
    sealed class Line
    {
        readonly StringBuilder b = new StringBuilder();
        readonly char close;
        public Line(char open, char close) { b.Append(open); this.close = close; }
        public Line() : this('{', '}') { }
        public Line(string type) : this() { Text("t", type); }
        public Line Raw(string name, string json) { Next(); Quote(name); b.Append(':').Append(json); return this; }
        public Line Number(string name, long v) { return Raw(name, v.ToString(CultureInfo.InvariantCulture)); }
        public Line Flag(string name, bool v) { return Raw(name, v ? "true" : "false"); }
        public Line Text(string name, string v) { Next(); Quote(name); b.Append(':'); Quote(v); return this; }
        public Line Item(string v) { Next(); Quote(v); return this; }
        public override string ToString() { return b.ToString() + close; }
        void Next() { if (b.Length > 1) b.Append(','); }
        void Quote(string s)
        {
            b.Append('"');
            foreach (char c in s ?? "")
            {
                if (c == '"' || c == '\\') b.Append('\\').Append(c);
                else if (c >= ' ' && c < 127) b.Append(c);
                else b.Append("\\u").Append(((int)c).ToString("x4", CultureInfo.InvariantCulture));
            }
            b.Append('"');
        }
    }
}
