// Part of the class in agent.cs: what is done to sessions.
public static partial class RdpBrokerAgent
{
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSLogoffSession(IntPtr server, int id, bool wait);
    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSDisconnectSession(IntPtr server, int id, bool wait);
    [DllImport("wtsapi32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    static extern bool WTSSendMessageW(IntPtr server, int id, string title, int titleBytes, string text, int textBytes, int style, int seconds,
        out int response, bool wait);

    static int orders; // under way

    // Order is what a command says: of which session, and what to do to it.
    sealed class Order
    {
        public string Kind, Request, Domain, User, Title, Text;
        public int Id;
        public long Logon, Disconnect, Seconds, Input;
        public int Code; // why it was refused, a Win32 code or a state
    }

    static bool IsOrder(string[] w)
    {
        return w.Length == 8 && (w[0] == "logoff" || w[0] == "message") || w.Length == 7 && w[0] == "disconnect";
    }

    // Obey does something to one session if it is still exactly the one described.
    static void Obey(string[] w)
    {
        Order o = new Order();
        o.Kind = w[0];
        o.Request = w[1];
        try
        {
            string why = Interlocked.Increment(ref orders) > 8 ? "busy" : Read(o, w) ?? Do(o);
            if (why != null) Write(Answer(o, "refused").Text("why", why).Number("code", o.Code));
            else if (o.Kind == "logoff") AwaitGone(o);
            else Write(Answer(o, "done"));
        }
        finally { Interlocked.Decrement(ref orders); }
    }

    // Read returns why an order is none, or null.
    static string Read(Order o, string[] w)
    {
        try
        {
            o.Id = int.Parse(w[2], CultureInfo.InvariantCulture);
            o.Logon = long.Parse(w[3], CultureInfo.InvariantCulture);
            o.Domain = FromBase64(w[4]);
            o.User = FromBase64(w[5]);
            if (o.Kind == "message") { o.Title = FromBase64(w[6]); o.Text = FromBase64(w[7]); }
            else if (o.Kind == "disconnect") o.Input = long.Parse(w[6], CultureInfo.InvariantCulture);
            else
            {
                o.Disconnect = long.Parse(w[6], CultureInfo.InvariantCulture);
                o.Seconds = long.Parse(w[7], CultureInfo.InvariantCulture);
            }
        }
        catch (FormatException) { return "malformed"; }
        catch (OverflowException) { return "malformed"; }
        if (o.Id < 1 || o.Id >= FirstListener) return "bad-id";
        if (o.Id == own) return "own-session";
        if (o.Id == ConsoleSession() && o.Kind != "message") return "console";
        return o.User == "" || o.Logon <= 0 || o.Kind == "logoff" && o.Disconnect <= 0 ? "not-described" : null;
    }

    // Do returns why it did nothing, or null. The mutex keeps agents of several brokers
    // from judging by a state that another of them is changing.
    static string Do(Order o)
    {
        Mutex one;
        try { one = new Mutex(false, "Global\\rdpbroker-logoff"); }
        catch (UnauthorizedAccessException) { return "locked"; } // an agent that runs as somebody else
        using (one)
        {
            bool held;
            try { held = one.WaitOne(5000); }
            catch (AbandonedMutexException) { held = true; }
            if (!held) return "locked";
            try { return CompareAndAct(o); }
            finally { one.ReleaseMutex(); }
        }
    }

    // CompareAndAct looks at the session and acts, with nothing in between that waits.
    static string CompareAndAct(Order o)
    {
        Session s = new Session();
        s.Id = o.Id;
        Describe(s);
        o.Code = s.Error;
        if (o.Code == FileNotFound || o.Code == WinStationNotFound) return "gone";
        if (o.Code != 0) return "unreadable";
        if (s.IsConsole() && o.Kind != "message") return "console";
        if (!Same(s.User, o.User) || !Same(s.Domain, o.Domain)) return "other-user";
        if (s.Logon != o.Logon) return "logged-on-anew";
        bool done;
        if (o.Kind == "logoff")
        {
            if (s.State == Active) return "connected";
            if (s.State != Disconnected) { o.Code = s.State; return "state"; }
            if (s.Disconnect != o.Disconnect) return "was-connected";
            done = WTSLogoffSession(IntPtr.Zero, o.Id, false);
        }
        else if (o.Kind == "disconnect")
        {
            if (s.State != Active) { o.Code = s.State; return "not-active"; }
            if (o.Input > 0 && s.Input > o.Input) return "was-used";
            done = WTSDisconnectSession(IntPtr.Zero, o.Id, false);
        }
        else
        {
            int response; // there is none: nobody waits for it
            done = WTSSendMessageW(IntPtr.Zero, o.Id, o.Title, 2 * o.Title.Length, o.Text, 2 * o.Text.Length, 0x40, 0, out response, false); // MB_ICONINFORMATION
        }
        o.Code = done ? 0 : Marshal.GetLastWin32Error();
        if (done) wake.Set();
        return done ? null : "failed";
    }

    // AwaitGone tells how the logoff goes on, and its end: gone, or stuck when the
    // seconds are over.
    static void AwaitGone(Order o)
    {
        long began = clock.ElapsedMilliseconds, told = began;
        int state = Disconnected;
        Write(Answer(o, "going").Number("state", state));
        for (; ; )
        {
            long now = clock.ElapsedMilliseconds;
            Session s = new Session();
            s.Id = o.Id;
            Describe(s);
            if (s.Error == FileNotFound || s.Error == WinStationNotFound ? !Listed(o.Id) : s.Error == 0 && IsAnother(s, o.Logon))
            {
                Write(Answer(o, "gone").Number("ms", now - began));
                wake.Set();
                return;
            }
            bool changed = s.Error == 0 && s.State != state;
            if (s.Error == 0) state = s.State;
            if (now - began >= o.Seconds * 1000)
            {
                Write(Answer(o, "stuck").Number("state", state).Number("code", s.Error));
                return;
            }
            if (changed || now - told >= 5000)
            {
                Write(Answer(o, "going").Number("state", state));
                told = now;
            }
            Thread.Sleep(now - began < 5000 ? 100 : 1000);
        }
    }

    // IsAnother: the ID belongs to another session by now. One that has lost its user
    // or its logon time on the way down is still the same.
    static bool IsAnother(Session s, long logon)
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

    static Line Answer(Order o, string result)
    {
        return new Line(o.Kind).Text("req", o.Request).Number("id", o.Id).Number("up", clock.ElapsedMilliseconds).Text("result", result);
    }

    static bool Same(string a, string b) { return string.Equals(a, b, StringComparison.OrdinalIgnoreCase); }
    static string FromBase64(string s) { return s == "-" ? "" : Encoding.UTF8.GetString(Convert.FromBase64String(s)); }
}
