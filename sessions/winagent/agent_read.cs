// Part of the class in agent.cs; sent as one text with it.
public static partial class RdpBrokerAgent
{
    // WTS_INFO_CLASS
    const int InitialProgram = 0, SessionId = 4, UserName = 5, DomainName = 7, ClientName = 10, ClientAddress = 14, SessionInfoEx = 25;
    // WTS_CONNECTSTATE_CLASS
    const int Active = 0, Connected = 1, ConnectQuery = 2, Disconnected = 4, Idle = 5, Listen = 6;
    const int FileNotFound = 2, WinStationNotFound = 7022; // what a query of a vanished session fails with

    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSEnumerateSessionsExW(IntPtr server, ref int level, int filter, out IntPtr list, out int count);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSFreeMemoryExW(int type, IntPtr list, int count);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSQuerySessionInformationW(IntPtr server, int id, int what, out IntPtr data, out int size);
    [DllImport("wtsapi32.dll")]
    static extern void WTSFreeMemory(IntPtr data);
    [DllImport("kernel32.dll")]
    static extern int WTSGetActiveConsoleSessionId();

    // ---- sessions

    sealed class Session
    {
        public int Id, State;
        public string Name = "", User = "", Domain = "", Client = "", Address = "", Program = "";
        public long Logon, Disconnect, Input, Now;
        public string Keep; // the user's marker, null if there is none
        public long Marked; // when it was set
        public bool Pending; // whether there is one is not known yet
        public int Error; // why its details could not be read, a Win32 code; 0: they were
        public bool IsConsole() { return string.Equals(Name, "Console", StringComparison.OrdinalIgnoreCase); }
        public string Key() { return Id.ToString(CultureInfo.InvariantCulture) + " " + Logon.ToString(CultureInfo.InvariantCulture); }
    }

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
                if (s.Id != 0) { Extras(s); ReadMarker(s); }
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

    // ---- telling what was read

    // The last input that has been told of each session, by Session.Key. The hash is not
    // over them, and whoever asks must not miss one.
    static Dictionary<string, long> toldInputs = new Dictionary<string, long>();

    static Line State(List<Session> list, string facts, long began, string hash, string why, string request)
    {
        StringBuilder b = new StringBuilder("[");
        toldInputs = new Dictionary<string, long>(list.Count);
        foreach (Session s in list)
        {
            toldInputs[s.Key()] = s.Input;
            Line l = new Line().Number("id", s.Id).Number("state", s.State).Text("name", s.Name).Text("user", s.User).Text("domain", s.Domain)
                .Number("logon", s.Logon).Number("disc", s.Disconnect).Number("input", s.Input)
                .Text("client", s.Client).Text("addr", s.Address).Text("program", s.Program).Number("error", s.Error);
            if (s.Keep != null) l.Text("keep", s.Keep).Number("marked", s.Marked);
            if (s.Pending) l.Flag("pending", true);
            if (b.Length > 1) b.Append(',');
            b.Append(l);
        }
        Line state = new Line("state").Number("seq", ++sequence).Number("up", began).Number("now", HostTime(list)).Text("why", why).Text("hash", hash);
        if (request != null) state.Text("req", request);
        return state.Number("console", ConsoleSession()).Raw("facts", facts).Raw("sessions", b.Append(']').ToString());
    }

    static Line Beat(List<Session> list, long began, string hash)
    {
        return new Line("beat").Number("seq", ++sequence).Number("up", began).Number("now", HostTime(list)).Text("hash", hash);
    }

    // Inputs adds last inputs that are others than have been told, if there are any.
    static Line Inputs(Line beat, List<Session> list)
    {
        StringBuilder b = new StringBuilder("[");
        foreach (Session s in list)
        {
            long before;
            string key = s.Key();
            if (toldInputs.TryGetValue(key, out before) && before == s.Input) continue;
            toldInputs[key] = s.Input;
            if (b.Length > 1) b.Append(',');
            b.Append(new Line().Number("id", s.Id).Number("logon", s.Logon).Number("input", s.Input));
        }
        return b.Length > 1 ? beat.Raw("sessions", b.Append(']').ToString()) : beat;
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
                .Append('\t').Append(s.Program).Append('\t').Append(s.Error).Append('\t').Append(s.Keep).Append('\t').Append(s.Marked)
                .Append('\t').Append(s.Pending);
        ulong h = 14695981039346656037; // FNV-1a
        for (int i = 0; i < b.Length; i++) h = unchecked((h ^ b[i]) * 1099511628211);
        return h.ToString("x16", CultureInfo.InvariantCulture);
    }
}
