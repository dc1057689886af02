package simhost

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestAccountsHaveOneForm(t *testing.T) {
	for _, c := range []struct{ home, domain, user, want string }{
		{"CONTOSO", "", "alice", `CONTOSO\alice`},
		{"CONTOSO", "contoso", "alice", `CONTOSO\alice`},
		{"CONTOSO", "", `contoso\alice`, `CONTOSO\alice`},
		{"CONTOSO", "", "alice@contoso.example", `CONTOSO\alice`},
		{"CONTOSO", "FABRIKAM", "alice", `FABRIKAM\alice`},
		{"", "", "alice", "alice"},
		{"", "CONTOSO", "alice", `CONTOSO\alice`},
		{"CONTOSO", ".", "alice", `CONTOSO\alice`},
	} {
		h, err := New(Config{Name: "x", Domain: c.home})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.account(c.domain, c.user).String(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestNewNeedsAName(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a host without a name was made")
	}
}

func TestThePasswordIsChecked(t *testing.T) {
	testlab.Require(t, "xfreerdp|xfreerdp3")
	t.Parallel()
	h := start(t, Config{Name: "kassel", RDP: RDP{NoticeFor: time.Millisecond, Password: func(a sessions.Account) (string, bool) {
		return "correct horse", a.User == "alice"
	}}})
	d := testlab.StartDisplay(t)
	for password, let := range map[string]bool{"wrong": false, "correct horse": true} {
		client := testlab.XFreeRDP(t, d, testlab.ClientOptions{Addr: h.rdp, User: "alice", Password: password})
		if let {
			h.wait(t, "alice", sessions.StateActive)
			continue
		}
		if err := client.Wait(deadlined(t)); err == nil || !strings.Contains(client.Output(), "FRESH_CREDENTIALS") {
			t.Errorf("with a wrong password the client ended with %v and said %s", err, client.Output())
		}
	}
	testlab.XFreeRDP(t, d, testlab.ClientOptions{Addr: h.rdp, User: "bob"})
	h.wait(t, "bob", sessions.StateActive)
}

func TestRubbishDoesNoHarm(t *testing.T) {
	h := start(t, Config{Name: "hanau", WinRM: WinRM{Managers: []Manager{broker}}})
	for _, addr := range []string{h.rdp, h.winrm} {
		for _, rubbish := range []string{"", "\x03", "GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x00\xff", strings.Repeat("\x00", 5000)} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatalf("after rubbish nobody answers: %v", err)
			}
			_, _ = c.Write([]byte(rubbish))
			c.Close()
		}
	}
	if len(h.Model().Sessions()) != 3 {
		t.Errorf("sessions: %+v", h.Model().Sessions())
	}
}
