package doctor_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/doctor"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// service is the account of the tests.
var service = simhost.Manager{Account: sessions.Account{Domain: "CONTOSO", User: "svc-rdpbroker"}, Password: "right"}

// windows is a running simulated host and how the broker is configured for it.
type windows struct {
	sim  *simhost.Host
	conf config.Host
	mode placement.Mode
}

// startWindows runs a simulated host with WinRM over HTTPS; change may be nil.
func startWindows(t *testing.T, name string, change func(*simhost.Config)) *windows {
	t.Helper()
	cert, err := simhost.SelfSigned(time.Now(), name+".contoso.example", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := simhost.Config{
		Name: name, Domain: "CONTOSO",
		Options: simhost.Options{Slots: 2, CountDisconnected: true},
		WinRM:   simhost.WinRM{Managers: []simhost.Manager{service}, TLS: cert},
		RDP:     simhost.RDP{Names: []string{"broker.contoso.example"}},
	}
	if change != nil {
		change(&cfg)
	}
	host, err := simhost.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rdp, manage := listen(t), listen(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx, rdp, manage) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &windows{sim: host, conf: config.Host{
		Host: sessions.Host{Name: name, Farm: "office", Addr: rdp.Addr().String(), Slots: 2},
		WinRM: &config.WinRM{
			URL: "https://" + manage.Addr().String() + "/wsman", User: service.Account.String(),
			Password: config.Secret{File: write(t, "password", service.Password)}, Auth: "ntlm",
			CAFile: write(t, "ca.pem", certificate(cert)), Poll: time.Minute, Timeout: 5 * time.Second, TextEviction: true,
		},
	}, mode: placement.Evict}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func certificate(c *tls.Config) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificates[0].Certificate[0]}))
}

// patient is w as the command makes it.
func (w *windows) patient() doctor.Host {
	m := w.conf.WinRM
	return doctor.Host{
		Host: w.conf.Host, Eviction: w.mode,
		Management: doctor.Management{
			Kind: doctor.WinRM, Addr: strings.TrimSuffix(m.URL[strings.Index(m.URL, "//")+2:], "/wsman"), User: m.User,
			Credential: m.User + m.Password.String(), PlainHTTP: strings.HasPrefix(m.URL, "http:"), CAFile: m.CAFile, ServerName: m.ServerName,
		},
		Reader: doctor.ReaderFunc(func(ctx context.Context) (sessions.Report, error) { return daemon.ReadHost(ctx, w.conf, nil) }),
	}
}

// quick is a doctor who does not linger over RDP.
func quick(names ...string) *doctor.Doctor {
	return doctor.New(doctor.Config{Names: names, ConnectTimeout: 2 * time.Second, ReadTimeout: 10 * time.Second,
		Reach: func(ctx context.Context, addr string, o reach.Options) (reach.Result, error) {
			o.Pause = -1
			return reach.Check(ctx, addr, o)
		}})
}

// want asserts that the report has a finding of this check and level whose text
// and advice hold all the words.
func want(t *testing.T, r doctor.Report, check doctor.Check, level reach.Level, words ...string) {
	t.Helper()
	for _, f := range r.Findings {
		said := f.Text + " → " + f.Advice
		if f.Check == check && f.Level == level && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said, w) }) {
			return
		}
	}
	var b strings.Builder
	_ = doctor.Result{Hosts: []doctor.Report{r}}.Text(&b, false)
	t.Errorf("no %s of %s with %q in\n%s", level, check, words, b.String())
}

// failures asserts how many checks failed.
func failures(t *testing.T, r doctor.Report, n int) {
	t.Helper()
	if got := r.Count(reach.LevelFailure); got != n {
		t.Errorf("%d failures instead of %d: %+v", got, n, r.Findings)
	}
}

func TestAHostInOrder(t *testing.T) {
	t.Parallel()
	w := startWindows(t, "ts1", nil)
	if err := w.sim.Model().Seed(simhost.Seed{Account: sessions.Account{Domain: "CONTOSO", User: "alice"}, DisconnectedAgo: time.Hour, LogonAgo: 2 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	r := quick("broker.contoso.example", "other.contoso.example").Check(t.Context(), w.patient())
	failures(t, r, 0)
	want(t, r, doctor.CheckRDP, reach.LevelOK, "connected to")
	want(t, r, doctor.CheckBrokerName, reach.LevelOK, "broker.contoso.example")
	want(t, r, doctor.CheckBrokerName, reach.LevelWarning, "other.contoso.example")
	want(t, r, doctor.CheckManagement, reach.LevelOK, "WinRM can be reached")
	want(t, r, doctor.CheckTrust, reach.LevelOK, "valid until")
	want(t, r, doctor.CheckLogon, reach.LevelOK, `CONTOSO\svc-rdpbroker is let in`)
	want(t, r, doctor.CheckRights, reach.LevelOK, "1 of a user, ")
	want(t, r, doctor.CheckSessions, reach.LevelOK, "0 active, 1 disconnected")
	want(t, r, doctor.CheckLanguage, reach.LevelOK, "is known")
	want(t, r, doctor.CheckCounting, reach.LevelWarning, "assumed", "count_disconnected")
	want(t, r, doctor.CheckSlots, reach.LevelOK, "slots: 2", "not told by this kind of reading (quser)")
	want(t, r, doctor.CheckPolicies, reach.LevelOK, "not told by this kind of reading", "reg query")
	want(t, r, doctor.CheckEviction, reach.LevelOK)
}

// TestAHostWithAnAgent: what an agent tells goes further than the text tools.
func TestAHostWithAnAgent(t *testing.T) {
	t.Parallel()
	w := startWindows(t, "ts1", func(c *simhost.Config) {
		c.Options.MaxDisconnection, c.Options.ClockSkew, c.Options.Drain = 2*time.Hour, 10*time.Minute, simhost.DrainOn
	})
	w.conf.WinRM.Mode = "auto"
	r := quick().Check(t.Context(), w.patient())
	failures(t, r, 0)
	want(t, r, doctor.CheckRights, reach.LevelOK, "administrator", "may log them off")
	want(t, r, doctor.CheckSystem, reach.LevelOK, "Windows Server")
	want(t, r, doctor.CheckSlots, reach.LevelOK, "the host takes 2 (administration mode has two sessions)")
	want(t, r, doctor.CheckCounting, reach.LevelOK, "administration mode")
	want(t, r, doctor.CheckDrain, reach.LevelWarning, "lets nobody new in", "change logon /query")
	want(t, r, doctor.CheckClock, reach.LevelWarning, "10m0s ahead")
	want(t, r, doctor.CheckPolicies, reach.LevelWarning, "2h0m0s", "MaxDisconnectionTime")
}

// TestAnAgentWithoutRights: its account is let in, and sees less than there is.
func TestAnAgentWithoutRights(t *testing.T) {
	t.Parallel()
	w := startWindows(t, "ts1", func(c *simhost.Config) { c.WinRM.Managers[0].LowRights = true })
	w.conf.WinRM.Mode = "agent"
	r := quick().Check(t.Context(), w.patient())
	want(t, r, doctor.CheckRights, reach.LevelWarning, "no administrator", "Query right", "LocalAccountTokenFilterPolicy")
}

func TestHostsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		sim   func(*simhost.Config)
		conf  func(*testing.T, *config.Host)
		check doctor.Check
		words []string
	}{
		{"wrong password", nil, func(t *testing.T, h *config.Host) { h.WinRM.Password.File = write(t, "password", "wrong") },
			doctor.CheckLogon, []string{"is not let in", "lockout", `DOMAIN\user`, "Restrict NTLM", "4625"}},
		{"no NTLM", func(c *simhost.Config) { c.WinRM.NoNTLM, c.WinRM.Basic = true, true }, nil,
			doctor.CheckLogon, []string{"does not do NTLM", "Negotiate"}},
		{"password file gone", nil, func(_ *testing.T, h *config.Host) { h.WinRM.Password.File = "/nowhere/password" },
			doctor.CheckReading, []string{"/nowhere/password"}},
		{"wrong authority", nil, func(t *testing.T, h *config.Host) {
			other, err := simhost.SelfSigned(time.Now(), "other")
			if err != nil {
				t.Fatal(err)
			}
			h.WinRM.CAFile = write(t, "other.pem", certificate(other))
		}, doctor.CheckTrust, []string{"is not trusted by", "signed by itself", "SHA-256", "winrm.ca_file"}},
		{"certificate for another name", nil, func(_ *testing.T, h *config.Host) { h.WinRM.ServerName = "ts9.contoso.example" },
			doctor.CheckTrust, []string{"ts1.contoso.example, 127.0.0.1", "not for ts9.contoso.example", "winrm.server_name"}},
		{"expired certificate", func(c *simhost.Config) { c.WinRM.TLS = selfSigned(time.Now().AddDate(-2, 0, 0)) }, nil,
			doctor.CheckTrust, []string{"which is not now"}},
		{"no certificate in ca_file", nil, func(t *testing.T, h *config.Host) { h.WinRM.CAFile = write(t, "ca.der", "0\x82") },
			doctor.CheckTrust, []string{"no certificate in PEM form", "openssl x509 -inform der"}},
		{"no TLS", func(c *simhost.Config) { c.WinRM.TLS = nil }, nil,
			doctor.CheckTrust, []string{"does not speak TLS", "5986"}},
		{"access denied on listing", func(c *simhost.Config) {
			c.Options.ListError = &simhost.WinError{Code: 5, Text: "Access is denied."}
		}, nil, doctor.CheckRights, []string{"access denied, Win32 error 5", "RDP-Tcp", "Remote Management Users", "LocalAccountTokenFilterPolicy"}},
		{"access denied, in Russian", func(c *simhost.Config) {
			c.Options.ListError = &simhost.WinError{Code: 5, Text: "Отказано в доступе."}
		}, nil, doctor.CheckRights, []string{"access denied, Win32 error 5"}},
		{"services do not answer", func(c *simhost.Config) {
			c.Options.ListError = &simhost.WinError{Code: 1722, Text: "The RPC server is unavailable."}
		}, nil, doctor.CheckReading, []string{"TermService"}},
		{"Home edition", func(c *simhost.Config) { c.WinRM.NoTools = true }, nil,
			doctor.CheckTools, []string{"not recognized", "Home"}},
		{"shells used up", func(c *simhost.Config) { c.Options.Faults = []simhost.Fault{{Kind: simhost.FaultShellQuota}} }, nil,
			doctor.CheckReading, []string{"used up", "MaxShellsPerUser"}},
		{"shell vanishes", func(c *simhost.Config) { c.Options.Faults = []simhost.Fault{{Kind: simhost.FaultShellVanishes}} }, nil,
			doctor.CheckReading, []string{"in the middle"}},
		{"web server", func(c *simhost.Config) { c.Options.Faults = []simhost.Fault{{Kind: simhost.FaultBadGateway}} }, nil,
			doctor.CheckReading, []string{"status 502", "winrm.address"}},
		{"mute", func(c *simhost.Config) { c.Options.Faults = []simhost.Fault{{Kind: simhost.FaultBlackHole}} },
			func(_ *testing.T, h *config.Host) { h.WinRM.Timeout = 500 * time.Millisecond },
			doctor.CheckReading, []string{"did not answer in time"}},
		{"resets", func(c *simhost.Config) { c.Options.Faults = []simhost.Fault{{Kind: simhost.FaultReset}} }, nil,
			doctor.CheckReading, []string{"cannot be read", "nobody new is sent there"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := startWindows(t, "ts1", tt.sim)
			if tt.conf != nil {
				tt.conf(t, &w.conf)
			}
			r := quick().Check(t.Context(), w.patient())
			want(t, r, tt.check, reach.LevelFailure, tt.words...)
			failures(t, r, 1)
			want(t, r, doctor.CheckRDP, reach.LevelOK, "connected to") // users are not kept out
		})
	}
}

func selfSigned(at time.Time) *tls.Config {
	c, err := simhost.SelfSigned(at, "ts1.contoso.example", "127.0.0.1")
	if err != nil {
		panic(err)
	}
	return c
}

func TestHostsThatCouldBeBetter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		sim   func(*simhost.Config)
		conf  func(*testing.T, *windows)
		check doctor.Check
		words []string
	}{
		{"no text eviction", nil, func(_ *testing.T, w *windows) { w.conf.WinRM.TextEviction = false },
			doctor.CheckEviction, []string{"eviction.mode is evict, but nobody is ever logged off", "text_eviction: true"}},
		{"no text eviction in shadow", nil, func(_ *testing.T, w *windows) { w.conf.WinRM.TextEviction, w.mode = false, placement.Shadow },
			doctor.CheckEviction, []string{"shadow stays empty"}},
		{"certificate ends soon", func(c *simhost.Config) { c.WinRM.TLS = selfSigned(time.Now().AddDate(-1, 0, 10)) }, nil,
			doctor.CheckTrust, []string{"but ends on"}},
		{"drained by configuration", nil, func(_ *testing.T, w *windows) { w.conf.Draining = true },
			doctor.CheckDrain, []string{"drain: true"}},
		{"more sessions than slots", nil, func(t *testing.T, w *windows) {
			for _, user := range []string{"a", "b", "c"} {
				if err := w.sim.Model().Seed(simhost.Seed{Account: sessions.Account{User: user}}); err != nil {
					t.Fatal(err)
				}
			}
		}, doctor.CheckSlots, []string{"3 sessions hold slots", "only 2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := startWindows(t, "ts1", tt.sim)
			if tt.sim != nil { // the certificate may be another one
				w.conf.WinRM.CAFile = presented(t, w)
			}
			if tt.conf != nil {
				tt.conf(t, w)
			}
			r := quick().Check(t.Context(), w.patient())
			want(t, r, tt.check, reach.LevelWarning, tt.words...)
			failures(t, r, 0)
		})
	}
}

// presented is a file with the certificate that w's WinRM shows.
func presented(t *testing.T, w *windows) string {
	t.Helper()
	conn, err := tls.Dial("tcp", w.patient().Management.Addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	block := pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw}
	return write(t, "ca.pem", string(pem.EncodeToMemory(&block)))
}
