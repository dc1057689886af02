package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker/doctor"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/tsts"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
	"github.com/rdpbroker/rdpbroker/sessions/winrm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// reader is a Reader with a fixed answer.
func reader(r sessions.Report, err error) doctor.Reader {
	return doctor.ReaderFunc(func(context.Context) (sessions.Report, error) { return r, err })
}

// fake is a configuration in which names and RDP have fixed answers.
func fake() doctor.Config {
	return doctor.Config{
		Names: []string{"rdp.contoso.example"},
		Now:   func() time.Time { return noon },
		Lookup: func(_ context.Context, name string) ([]string, error) {
			if name == "gone.contoso.example" {
				return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
			}
			return []string{"192.0.2.7"}, nil
		},
		Reach: func(_ context.Context, addr string, o reach.Options) (reach.Result, error) {
			return reach.Result{Addr: addr, Time: o.Now, Remote: "192.0.2.7:3389", ConnectMillis: 1,
				Answers: []reach.Answer{{Offer: reach.OfferHybridEx, Selected: "HYBRID_EX"}},
				TLS: &reach.TLS{Version: "TLS 1.2", Cipher: "X", Chain: []reach.Certificate{{
					Subject: "CN=ts", DNSNames: []string{"ts.contoso.example"}, Key: "RSA 2048", SHA256: "00", NotAfter: noon.AddDate(1, 0, 0),
				}}},
				Names: []reach.Name{{Name: "rdp.contoso.example"}},
			}, nil
		},
	}
}

func host(name string) sessions.Host {
	return sessions.Host{Name: name, Farm: "office", Addr: name + ".contoso.example:3389"}
}

// farm is a host of each kind: one whose settings work against the broker, one
// that cannot be reached at all, one in order.
func farm(t *testing.T) []doctor.Host {
	ts1 := host("ts1")
	ts1.Slots, ts1.CountDisconnected = 4, sessions.Yes
	contrary := sessions.Report{
		ReadAt: noon, HostTime: noon.Add(-3 * time.Minute), Source: "agent", OS: "Windows Server 2022 Standard (build 20348)",
		Limit: 2, LimitSource: "administration mode has two sessions",
		CountsDisconnected: sessions.No, CountsSource: "administration mode since Windows Server 2008 limits active sessions",
		Draining: true,
		Warnings: []string{"Windows itself logs off sessions that have been disconnected for 2h0m0s (MaxDisconnectionTime, by policy)"},
		Sessions: []sessions.Session{
			{ID: 0, Name: "services", State: sessions.StateDisconnected},
			{ID: 2, Account: sessions.Account{Domain: "CONTOSO", User: "alice"}, State: sessions.StateUnknown},
			{ID: 3, Account: sessions.Account{Domain: "CONTOSO", User: "b\x1b[2Job"}, State: sessions.StateDown},
			{ID: 4, Account: sessions.Account{Domain: "CONTOSO", User: "carol"}, State: sessions.StateDisconnected},
			{ID: 65536, Name: "rdp-tcp", State: sessions.StateListen},
		},
	}
	x1 := host("x1")
	return []doctor.Host{
		{Host: ts1, Eviction: placement.Evict, Reader: reader(contrary, nil),
			Management: doctor.Management{Kind: doctor.WinRM, PlainHTTP: true, Addr: listen(t).Addr().String(), User: `CONTOSO\svc`}},
		{Host: host("gone"), Reader: reader(sessions.Report{}, errors.New("never asked")),
			Management: doctor.Management{Kind: doctor.WinRM, Addr: "127.0.0.1:1"}},
		{Host: x1, Eviction: placement.Shadow, Management: doctor.Management{Kind: doctor.XRDPLocal}, Reader: reader(sessions.Report{
			ReadAt: noon, HostTime: noon, Source: "xrdp", Limit: 5, CountsDisconnected: sessions.Yes,
			Sessions: []sessions.Session{{ID: 70001, Account: sessions.Account{User: "dave"}, State: sessions.StateActive}},
		}, nil)},
	}
}

// TestGolden: what people and scripts get to read. Scripts rely on the JSON form.
func TestGolden(t *testing.T) {
	var told []string
	cfg := fake()
	cfg.Parallel = 2
	result := doctor.New(cfg).Run(t.Context(), farm(t), func(r doctor.Report) { told = append(told, r.Line()) })
	if len(told) != 3 {
		t.Errorf("was told of %q", told)
	}
	var people, quiet, scripts bytes.Buffer
	for _, err := range []error{result.Text(&people, false), result.Text(&quiet, true), result.JSON(&scripts)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "farm.txt", people.Bytes())
	golden(t, "farm-quiet.txt", quiet.Bytes())
	golden(t, "farm.json", scripts.Bytes())
	if strings.Contains(people.String(), "\x1b") {
		t.Error("a user's name reaches the terminal as it is")
	}
}

var port = regexp.MustCompile(`127\.0\.0\.1:\d{2,}`)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	got = port.ReplaceAll(got, []byte("127.0.0.1:PORT"))
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expected, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, expected) {
		t.Errorf("%s is not what is printed (-update writes it anew):\n%s", path, got)
	}
}

// TestOneWrongPasswordIsTriedOnce: a lockout of the broker's account would end
// all its reading.
func TestOneWrongPasswordIsTriedOnce(t *testing.T) {
	var tries atomic.Int32
	refusing := doctor.ReaderFunc(func(context.Context) (sessions.Report, error) {
		tries.Add(1)
		return sessions.Report{}, fmt.Errorf("watch: %w", &winrm.AuthError{Reason: "the host refused the user name or the password"})
	})
	var hosts []doctor.Host
	for i := range 6 {
		hosts = append(hosts, doctor.Host{Host: host(fmt.Sprint("ts", i)), Reader: refusing,
			Management: doctor.Management{Kind: doctor.XRDPLocal, User: "svc", Credential: "svc"}})
	}
	hosts[5].Management.Credential = "another"
	result := doctor.New(fake()).Run(t.Context(), hosts, nil)
	if tries.Load() != 2 || result.Failures != 2 {
		t.Errorf("%d tries of two passwords, %d failures", tries.Load(), result.Failures)
	}
	spared := 0
	for _, r := range result.Hosts {
		for _, f := range r.Findings {
			if f.Check == doctor.CheckLogon && f.Level == reach.LevelWarning && strings.Contains(f.Text, "not tried: ts") {
				spared++
			}
		}
	}
	if spared != 4 {
		t.Errorf("%d hosts were spared: %+v", spared, result.Hosts)
	}
}

// TestAGoodPasswordIsUsedSideBySide: once it is known to be right, nobody waits.
// A host that says nothing about the password decides nothing.
func TestAGoodPasswordIsUsedSideBySide(t *testing.T) {
	var first atomic.Bool
	meeting := make(chan struct{})
	together := doctor.ReaderFunc(func(ctx context.Context) (sessions.Report, error) {
		if first.CompareAndSwap(false, true) {
			return sessions.Report{}, errors.New("connection reset")
		}
		select {
		case meeting <- struct{}{}:
		case <-meeting:
		case <-ctx.Done():
			return sessions.Report{}, ctx.Err()
		}
		return sessions.Report{Source: "quser"}, nil
	})
	d := doctor.New(fake())
	m := doctor.Management{Kind: doctor.XRDPLocal, Credential: "svc"}
	silent := d.Check(t.Context(), doctor.Host{Host: host("ts0"), Reader: together, Management: m})
	want(t, silent, doctor.CheckReading, reach.LevelFailure, "connection reset")
	d.Check(t.Context(), doctor.Host{Host: host("ts1"), Reader: reader(sessions.Report{}, nil), Management: m})
	result := d.Run(t.Context(), []doctor.Host{
		{Host: host("ts2"), Reader: together, Management: m},
		{Host: host("ts3"), Reader: together, Management: m},
	}, nil)
	for _, r := range result.Hosts {
		want(t, r, doctor.CheckLogon, reach.LevelOK)
	}
}

// TestSideBySide: as many hosts at a time as asked for, never more.
func TestSideBySide(t *testing.T) {
	const parallel, many = 3, 10
	var now, most atomic.Int32
	full := make(chan struct{})
	busy := doctor.ReaderFunc(func(ctx context.Context) (sessions.Report, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		if n == parallel {
			close(full) // all of them are here
		}
		select {
		case <-full:
		case <-ctx.Done():
		}
		return sessions.Report{}, ctx.Err()
	})
	var hosts []doctor.Host
	for i := range many {
		r := busy
		if i >= parallel {
			r = func(context.Context) (sessions.Report, error) {
				n := now.Add(1)
				defer now.Add(-1)
				if n > parallel {
					return sessions.Report{}, fmt.Errorf("%d at a time", n)
				}
				return sessions.Report{Limit: 1}, nil
			}
		}
		hosts = append(hosts, doctor.Host{Host: host(fmt.Sprint("x", i)), Management: doctor.Management{Kind: doctor.XRDPLocal}, Reader: r})
	}
	cfg := fake()
	cfg.Parallel = parallel
	done := 0
	result := doctor.New(cfg).Run(t.Context(), hosts, func(doctor.Report) { done++ })
	if done != many || most.Load() != parallel {
		t.Errorf("%d hosts done, %d at a time", done, most.Load())
	}
	for i, r := range result.Hosts {
		if r.Host != fmt.Sprint("x", i) {
			t.Errorf("host %d is %s", i, r.Host)
		}
		want(t, r, doctor.CheckLogon, reach.LevelOK)
	}
}

// TestSilence: every wait has an end.
func TestSilence(t *testing.T) {
	t.Parallel()
	silent := listen(t).Addr().String() // connections wait in its backlog for ever
	cfg := fake()
	cfg.ConnectTimeout, cfg.ReadTimeout = 200*time.Millisecond, 200*time.Millisecond
	cfg.Now = nil
	cfg.Lookup = func(ctx context.Context, _ string) ([]string, error) { <-ctx.Done(); return nil, ctx.Err() }
	d := doctor.New(cfg)
	never := doctor.ReaderFunc(func(ctx context.Context) (sessions.Report, error) {
		<-ctx.Done()
		return sessions.Report{}, ctx.Err()
	})
	h := doctor.Host{Host: host("ts1"), Reader: never, Management: doctor.Management{Kind: doctor.WinRM, Addr: silent}}
	r := d.Check(t.Context(), h)
	want(t, r, doctor.CheckName, reach.LevelFailure, "cannot be looked up", "deadline")
	want(t, r, doctor.CheckTrust, reach.LevelFailure, "no answer in time")
	h.Management = doctor.Management{Kind: doctor.XRDPOverSSH, Addr: silent, Credential: "x"}
	want(t, d.Check(t.Context(), h), doctor.CheckReading, reach.LevelFailure, "did not answer in time")

	cfg.ConnectTimeout, cfg.ReadTimeout = time.Hour, time.Hour
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if r := doctor.New(cfg).Check(ctx, h); r.Count(reach.LevelFailure) == 0 {
		t.Errorf("after the end of the context all is well: %+v", r)
	}
}

// TestDriversWords: errors that have no type are known by their words. Those of
// WinRM and ssh are met in the other tests; these take a broken host.
func TestDriversWords(t *testing.T) {
	tests := []struct {
		err   string
		check doctor.Check
		words string
	}{
		{"quser.exe: exit code 0: quser, line 2 (\"x\"): not a row of this listing", doctor.CheckLanguage, "report what they print"},
		{"qwinsta.exe shows neither a listener nor the services session: …", doctor.CheckRights, "LocalAccountTokenFilterPolicy"},
		{`qwinsta.exe: exit code 1: "Der Befehl \"qwinsta.exe\" ist entweder falsch geschrieben"`, doctor.CheckTools, "Home"},
		{"RpcOpenEnum: access denied (0x80070005)", doctor.CheckRights, "LocalAccountTokenFilterPolicy"},
		{"read xrdp host x1: xrdp-sesman is not running", doctor.CheckTools, "systemctl"},
		{"read xrdp host x1: several xrdp-sesman are running (pids [1 2])", doctor.CheckTools, "all but one"},
		{"something else", doctor.CheckReading, "nobody new is sent there"},
	}
	for _, tt := range tests {
		h := doctor.Host{Host: host("h"), Management: doctor.Management{Kind: doctor.XRDPLocal}, Reader: reader(sessions.Report{}, errors.New(tt.err))}
		want(t, doctor.New(fake()).Check(t.Context(), h), tt.check, reach.LevelFailure, tt.err, tt.words)
	}
	for err, words := range map[error]string{
		&winagent.UnusableError{Why: "constrained language mode"}: "mode: auto",
		&tsts.AuthError{Addr: "ts1:445", Reason: "wrong"}:         "lockout",
		&sshlink.AuthError{User: "root", Err: errors.New("no")}:   "lockout",
	} {
		h := doctor.Host{Host: host("h"), Management: doctor.Management{Kind: doctor.XRDPLocal}, Reader: reader(sessions.Report{}, err)}
		if r := doctor.New(fake()).Check(t.Context(), h); r.Count(reach.LevelFailure) != 1 || !strings.Contains(fmt.Sprint(r.Findings), words) {
			t.Errorf("%v: nothing with %q in %+v", err, words, r.Findings)
		}
	}
	for code, words := range map[uint32]string{5: "RootSDDL", 2147942402: "no command shell", 87: "winrm helpmsg 0x57"} {
		h := doctor.Host{Host: host("h"), Management: doctor.Management{Kind: doctor.XRDPLocal}, Reader: reader(sessions.Report{}, &winrm.Fault{Code: code})}
		r := doctor.New(fake()).Check(t.Context(), h)
		found := false
		for _, f := range r.Findings {
			found = found || f.Level == reach.LevelFailure && strings.Contains(f.Text+f.Advice, words)
		}
		if !found {
			t.Errorf("fault %d: nothing with %q in %+v", code, words, r.Findings)
		}
	}
}

// warned is the reading of an agent with these warnings.
func warned(w ...string) sessions.Report {
	return sessions.Report{Source: "agent", OS: "Windows", Warnings: w}
}

func TestJudgement(t *testing.T) {
	tests := []struct {
		name     string
		slots    int
		count    sessions.Tri
		eviction placement.Mode
		report   sessions.Report
		check    doctor.Check
		level    reach.Level
		words    string
	}{
		{"nobody says", 0, 0, 0, sessions.Report{}, doctor.CheckSlots, reach.LevelFailure, "slots: N"},
		{"without a limit", 0, 0, 0, sessions.Report{Limit: 999999}, doctor.CheckSlots, reach.LevelWarning, "no limit"},
		{"the host says", 0, 0, 0, sessions.Report{Limit: 5, LimitSource: "policy"}, doctor.CheckSlots, reach.LevelOK, "5 sessions (policy)"},
		{"fewer than the host takes", 2, 0, 0, sessions.Report{Limit: 999999}, doctor.CheckSlots, reach.LevelOK, "takes no limit"},
		{"assumed, off", 2, 0, placement.Off, sessions.Report{Source: "quser"}, doctor.CheckCounting, reach.LevelOK, "assumed"},
		{"assumed, evict", 2, 0, placement.Evict, sessions.Report{Source: "quser"}, doctor.CheckCounting, reach.LevelWarning, "yes or no"},
		{"configured", 2, sessions.No, placement.Evict, sessions.Report{}, doctor.CheckCounting, reach.LevelOK, "hold no slots, as broker.yaml says"},
		{"told", 2, 0, placement.Evict, sessions.Report{CountsDisconnected: sessions.Yes, CountsSource: "because"}, doctor.CheckCounting, reach.LevelOK, "because"},
		{"hold none, so none is freed", 2, sessions.No, placement.Evict, sessions.Report{NoEvict: "x"}, doctor.CheckEviction, reach.LevelOK, "hold no slots"},
		{"eviction off", 2, 0, placement.Off, sessions.Report{NoEvict: "x"}, doctor.CheckEviction, reach.LevelOK, "off"},
		{"clock ahead", 2, 0, 0, sessions.Report{ReadAt: noon, HostTime: noon.Add(time.Hour)}, doctor.CheckClock, reach.LevelWarning, "1h0m0s ahead"},
		{"no agent", 2, 0, 0, sessions.Report{Source: "quser (no agent: Constrained Language Mode)"}, doctor.CheckTools, reach.LevelWarning, "read by quser: Constrained Language Mode"},
		{"text instead of an agent", 2, 0, 0, sessions.Report{Source: "quser (no agent: x)"}, doctor.CheckClock, reach.LevelOK, "(quser)"},
		{"an agent without rights", 2, 0, 0, warned("the agent is no administrator: sessions are missing"), doctor.CheckRights, reach.LevelWarning, "Query right"},
		{"an agent with rights", 2, 0, 0, warned(), doctor.CheckRights, reach.LevelOK, "is an administrator"},
		{"nothing amiss", 2, 0, 0, warned(), doctor.CheckPolicies, reach.LevelOK, "no setting"},
		{"several sessions per user", 2, 0, 0, warned("(fSingleSessionPerUser is 0, by policy)"), doctor.CheckPolicies, reach.LevelWarning, "two slots"},
		{"logons disabled", 2, 0, 0, warned("logons are disabled on the host"), doctor.CheckDrain, reach.LevelWarning, "logons"},
		{"sessions of an earlier sesman", 2, 0, 0, warned("sessions to which nobody can get back"), doctor.CheckSessions, reach.LevelWarning, "end them"},
		{"nothing of the system", 2, 0, 0, sessions.Report{}, doctor.CheckRights, reach.LevelWarning, "Query right"},
	}
	for _, tt := range tests {
		h := doctor.Host{Host: host("h"), Eviction: tt.eviction, Reader: reader(tt.report, nil),
			Management: doctor.Management{Kind: doctor.WinRM, PlainHTTP: true, Addr: listen(t).Addr().String()}}
		h.Slots, h.CountDisconnected = tt.slots, tt.count
		t.Run(tt.name, func(t *testing.T) {
			want(t, doctor.New(fake()).Check(t.Context(), h), tt.check, tt.level, tt.words)
		})
	}
}
