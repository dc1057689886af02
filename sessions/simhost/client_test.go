package simhost

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	masterzen "github.com/masterzen/winrm"
	"github.com/rdpbroker/rdpbroker/sessions"
	driver "github.com/rdpbroker/rdpbroker/sessions/winrm"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// TestMasterzen proves the endpoint with a client that others wrote, over plain
// HTTP: with Basic, with NTLM, and with messages that NTLM seals.
func TestMasterzen(t *testing.T) {
	h := start(t, Config{Name: "mainz", WinRM: WinRM{Managers: []Manager{broker}, Basic: true, Split: rand.New(rand.NewPCG(1, 2))}})
	if err := h.Model().Seed(Seed{Account: user("alice"), ID: 5}); err != nil {
		t.Fatal(err)
	}
	address, port, _ := net.SplitHostPort(h.winrm)
	n, _ := strconv.Atoi(port)
	for name, decorator := range map[string]func() masterzen.Transporter{
		"basic": nil,
		"NTLM":  func() masterzen.Transporter { return &masterzen.ClientNTLM{} },
		"sealed": func() masterzen.Transporter {
			e, err := masterzen.NewEncryption("ntlm")
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			params := masterzen.NewParameters("PT5S", "en-US", 153600)
			params.TransportDecorator = decorator
			client, err := masterzen.NewClientWithParameters(masterzen.NewEndpoint(address, n, false, false, nil, nil, nil, patience),
				broker.Account.String(), broker.Password, params)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			stdout, stderr, code, err := client.RunCmdWithContext(ctx, "quser")
			if err != nil || code != 0 || stderr != "" || !strings.Contains(stdout, " alice ") {
				t.Errorf("quser: %d, %q, %q, %v", code, stdout, stderr, err)
			}
		})
	}
	closeIdle(t)
}

// openDriver makes the broker's own driver for the host. timeout bounds each command.
func openDriver(t *testing.T, h *runningHost, timeout time.Duration) *driver.Driver {
	t.Helper()
	cfg := driver.Config{
		Endpoint: h.winrm, User: broker.Account.String(), Password: func() (string, error) { return broker.Password, nil },
		Poll: 50 * time.Millisecond, Timeout: timeout, TextEviction: true,
	}
	if h.cfg.WinRM.TLS != nil {
		cfg.CA = certificatePEM(h.cfg.WinRM.TLS)
	} else {
		cfg.PlainHTTP = true
	}
	d, err := driver.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// read is the driver's next report that satisfies enough.
func read(t *testing.T, h *runningHost, d *driver.Driver, enough func(sessions.Report) bool) sessions.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var found *sessions.Report
	err := d.Watch(ctx, sessions.Host{Name: h.cfg.Name}, func(r sessions.Report) {
		if found == nil && enough(r) {
			found = &r
			cancel()
		}
	})
	if found == nil {
		t.Fatalf("no report: %v", err)
	}
	return *found
}

func any(sessions.Report) bool { return true }

// TestDriverReadsEveryLocale lets the real driver read a host in every language
// and both layouts, with output cut in the middle of characters.
func TestDriverReadsEveryLocale(t *testing.T) {
	plain, err := SelfSigned(time.Now(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for i, locale := range wintext.Locales() {
		for _, wide := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s wide=%v", locale.Name, wide), func(t *testing.T) {
				t.Parallel()
				w := WinRM{Managers: []Manager{broker}, Locale: locale, Wide: wide, RefusePlain: true, Split: rand.New(rand.NewPCG(uint64(i), 7))}
				if i%2 == 0 {
					w.TLS = plain
				}
				h := start(t, Config{Name: "ulm", WinRM: w})
				if err := h.Model().Seed(
					Seed{Account: user("Alice Liddell"), ID: 3, State: sessions.StateActive, LogonAgo: time.Hour},
					Seed{Account: user("bob"), ID: 4, LogonAgo: 100 * time.Hour, DisconnectedAgo: 50 * time.Hour},
				); err != nil {
					t.Fatal(err)
				}
				got := read(t, h, openDriver(t, h, patience), any)
				for _, want := range h.Model().Sessions() {
					var s *sessions.Session
					for i := range got.Sessions {
						if got.Sessions[i].ID == want.ID {
							s = &got.Sessions[i]
						}
					}
					if s == nil || !strings.EqualFold(s.Account.User, want.Account.User) || (s.State != want.State && s.State != sessions.StateUnknown) {
						t.Errorf("session %+v is read as %+v", want, s)
						continue
					}
					if _, known := locale.Word(want.State); known && s.State != want.State {
						t.Errorf("state %v is read as %v", want.State, s.State)
					}
				}
			})
		}
	}
}

func TestDriverEvicts(t *testing.T) {
	for _, c := range []struct {
		name string
		plan LogoffPlan
		want func(error) bool
		gone bool
	}{
		{"at once", LogoffPlan{}, func(err error) bool { return err == nil }, true},
		{"slowly", LogoffPlan{Takes: 300 * time.Millisecond}, func(err error) bool { return err == nil }, true},
		{"stuck", LogoffPlan{Sticks: true}, is[*sessions.StuckError], false},
		{"refused", LogoffPlan{Refused: true}, is[*sessions.RefusedError], false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, Config{Name: "trier", WinRM: WinRM{Managers: []Manager{broker}, RefusePlain: true}})
			if err := h.Model().Seed(Seed{Account: user("bob"), ID: 4, LogonAgo: 100 * time.Hour, DisconnectedAgo: 50 * time.Hour, Logoff: &c.plan}); err != nil {
				t.Fatal(err)
			}
			d := openDriver(t, h, time.Second) // logoff.exe waits for a stuck session for ever
			victim := sessions.Session{}
			for _, s := range read(t, h, d, any).Sessions {
				if s.ID == 4 {
					victim = s
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
			defer cancel()
			if err := d.Evict(ctx, sessions.Host{Name: "trier"}, victim); !c.want(err) {
				t.Errorf("Evict(%+v): %v", victim, err)
			}
			if has(h.Model(), 4) == c.gone {
				t.Errorf("sessions: %+v", h.Model().Sessions())
			}
		})
	}
}

func TestDriverDoesNotEvictWhoIsBack(t *testing.T) {
	h := start(t, Config{Name: "worms", WinRM: WinRM{Managers: []Manager{broker}}})
	if err := h.Model().Seed(Seed{Account: user("bob"), ID: 4, LogonAgo: 100 * time.Hour, DisconnectedAgo: 50 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	d := openDriver(t, h, patience)
	victim := sessions.Session{}
	for _, s := range read(t, h, d, any).Sessions {
		if s.ID == 4 {
			victim = s
		}
	}
	logon(t, h.Model(), "bob")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.Evict(ctx, sessions.Host{Name: "worms"}, victim); !is[*sessions.RefusedError](err) {
		t.Errorf("Evict: %v", err)
	}
	if !has(h.Model(), 4) {
		t.Error("bob was logged off")
	}
}

func TestDriverNeverReportsAnErrorAsEmpty(t *testing.T) {
	plain, err := SelfSigned(time.Now(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Fault{
		{Kind: FaultShellVanishes, On: ActionReceive}, {Kind: FaultShellQuota, On: ActionCreate}, {Kind: FaultOperationQuota, On: ActionCommand},
		{Kind: FaultEmpty500}, {Kind: FaultUnauthorized}, {Kind: FaultBadGateway}, {Kind: FaultReset}, {Kind: FaultHugeBody, Size: 8 << 20},
	} {
		t.Run(string(f.Kind), func(t *testing.T) {
			t.Parallel()
			h := start(t, Config{Name: "celle", Options: Options{Faults: []Fault{f}}, WinRM: WinRM{TLS: plain, Managers: []Manager{broker}}})
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			err := openDriver(t, h, patience).Watch(ctx, sessions.Host{Name: "celle"}, func(r sessions.Report) {
				t.Errorf("published %+v", r)
			})
			if err == nil || ctx.Err() != nil {
				t.Errorf("Watch: %v", err)
			}
		})
	}
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// closeIdle closes connections that a library left in the default transport.
func closeIdle(t *testing.T) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
}
