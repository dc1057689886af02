// The part of rdpbroker that runs on a Windows host. It is sent over and compiled
// when the broker connects; nothing is installed and nothing stays.
//
// Written for the compiler of .NET 4 that Windows PowerShell's Add-Type uses: C# 5,
// references mscorlib and System only, no warnings (Add-Type takes them for errors).
//
// It prints JSON lines in ASCII, so that no code page matters, and reads commands,
// one a line, words parted by blanks, times as FILETIME, texts as base64 of UTF-8:
//   start KEY=SECONDS ...                                   first, once
//   ping REQ
//   snapshot REQ [HASH]                                     HASH: of the newest state that the broker has
//   logoff REQ ID LOGON DOMAIN USER DISCONNECT SECONDS
//   disconnect REQ ID LOGON DOMAIN USER INPUT
//   message REQ ID LOGON DOMAIN USER TITLE TEXT
//   quit
// A snapshot is answered with a state. If that has HASH, and so has the one told last,
// a beat is the answer instead, with the last inputs that have changed since they were
// told: {"t":"beat",...,"req":REQ,"sessions":[{"id":ID,"logon":LOGON,"input":INPUT},...]}
//
// Where standard input is refused, the first line comes by a variable: a "start", and
// no command can follow, or one order about a session, after which it ends.
//
// The class is in several files, which are sent as one text, this one first.
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

public static partial class RdpBrokerAgent
{
    const int Protocol = 1;
    const string Version = "1";
    const int FirstListener = 65536; // IDs from here on are listeners, never anybody's session

    [DllImport("wtsapi32.dll", SetLastError = true)]
    static extern bool WTSWaitSystemEvent(IntPtr server, uint mask, out uint flags);
    [DllImport("shell32.dll")]
    static extern bool IsUserAnAdmin();

    static readonly object output = new object();
    static readonly Stopwatch clock = Stopwatch.StartNew();
    static readonly AutoResetEvent wake = new AutoResetEvent(false);
    static readonly Queue<string[]> asked = new Queue<string[]>(); // snapshots, in words
    static Stream stdout;
    static long sequence, heard, stopAt;
    static volatile string stop; // why to end; null: go on
    static volatile bool signalled;
    static int own;
    static double beat = 15, poll = 5, silence = 90, processes = 0, life = 0; // seconds; 0: never

    // ---- the life of the agent

    // Run is all of it. first is the first line, or "" if standard input has it.
    public static int Run(string languageMode, string first)
    {
        stdout = Console.OpenStandardOutput();
        try
        {
            bool listens = string.IsNullOrEmpty(first);
            if (listens) first = Console.In.ReadLine();
            if (first == null) return 5;
            string[] order = first.Trim().Split(' ');
            if (IsOrder(order)) life = 900; else Configure(order);
            own = OwnSession();
            Hello(languageMode);
            heard = clock.ElapsedMilliseconds;
            if (!listens) silence = 0;
            Background("watchdog", Watchdog);
            if (IsOrder(order)) { Obey(order); return 0; }
            if (listens) Background("commands", ReadCommands);
            Background("events", WaitForEvents);
            Background("accounts", LookUpAccounts);
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

    // Watchdog ends the agent when the broker is not heard any more, or it is too old,
    // whatever the other threads are stuck in: a full pipe, a call that does not return.
    static void Watchdog()
    {
        for (; ; Thread.Sleep(200))
        {
            long now = clock.ElapsedMilliseconds;
            if (stop == null && silence > 0 && now - Interlocked.Read(ref heard) > silence * 1000) Stop("silence");
            if (stop == null && life > 0 && now > life * 1000) Stop("life");
            if (stop != null && now - Interlocked.Read(ref stopAt) > 3000) Process.GetCurrentProcess().Kill();
        }
    }

    static void Configure(string[] words)
    {
        foreach (string word in words)
        {
            int eq = word.IndexOf('=');
            double v;
            if (eq < 0 || !double.TryParse(word.Substring(eq + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out v)) continue;
            switch (word.Substring(0, eq))
            {
                case "beat": beat = v; break;
                case "poll": poll = v; break;
                case "silence": silence = v; break;
                case "processes": processes = v; break;
                case "life": life = v; break;
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
        while (stop == null)
        {
            bool polled = !wake.WaitOne((int)Math.Max(0, next - clock.ElapsedMilliseconds));
            if (stop != null) return;
            bool signal = signalled;
            signalled = false;
            string[] asks = NextRequest();
            string request = asks == null ? null : asks[1];
            long began = clock.ElapsedMilliseconds;
            try
            {
                if (request != null || began >= factsAt + 60000 || factsAt == long.MinValue) { facts = Facts(); factsAt = began; }
                List<Session> list = Sessions();
                string hash = Hash(list, facts);
                if (asks != null && asks.Length == 3 && hash == asks[2] && hash == told)
                {
                    Write(Inputs(Beat(list, began, hash).Text("req", request), list));
                    said = began;
                }
                else if (hash != told || request != null)
                {
                    string why = told == null ? "start" : request != null ? "asked" : signal ? "event" : polled ? "poll" : "change";
                    Write(State(list, facts, began, hash, why, request));
                    told = hash;
                    said = began;
                }
                if (processes > 0 && (workAt == long.MinValue || began >= workAt + processes * 1000))
                {
                    Write(WorkLine(list, ReadWork(list), began, hash));
                    workAt = said = began;
                }
                else if (began >= said + beat * 1000)
                {
                    Write(Beat(list, began, hash));
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

    static string[] NextRequest()
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
            else if (w[0] == "snapshot" && (w.Length == 2 || w.Length == 3)) { lock (asked) asked.Enqueue(w); wake.Set(); }
            else if (IsOrder(w)) Background(w[0], delegate() { Obey(w); });
            else if (w[0] == "quit") { Stop("quit"); return; }
            else if (w[0] != "") Fail("command " + w[0], 0, "not understood");
        }
    }

    // ---- writing

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
