package tsts

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// mary is session 2 of office, as a report describes it.
func mary() sessions.Session {
	return sessions.Session{ID: 2, Account: sessions.Account{Domain: "CONTOSO", User: "mary"}, State: sessions.StateActive,
		LogonAt: timeOf(noon - 90*minute), LastInputAt: timeOf(noon - minute), Incarnation: incarnationOf(noon - 90*minute)}
}

func TestDisconnect(t *testing.T) {
	for name, edit := range map[string]func(*fakeHost){"session manager": func(*fakeHost) {}, "legacy": oldHost} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t, edit)
			if err := f.driver(t).Disconnect(within(t), host, mary()); err != nil {
				t.Fatal(err)
			}
			f.change(func(f *fakeHost) {
				if w := f.find(2); w.state != 4 || f.calls["Disconnect"] != 1 || f.calls["Logoff"]+f.calls["Reset"] != 0 {
					t.Errorf("session %+v, calls %v", w, f.calls)
				}
			})
			waitFor(t, func() bool { return f.Connections() == 0 })
		})
	}
}

func TestDisconnectRefused(t *testing.T) {
	now := func(edit func(*winSession)) func(*fakeHost) { return func(f *fakeHost) { edit(f.find(2)) } }
	for name, c := range map[string]struct {
		edit func(*fakeHost)
		why  string
	}{
		"gone":            {func(f *fakeHost) { f.remove(2) }, "it is not there any more"},
		"another user":    {now(func(w *winSession) { w.user = "bob" }), "another user has this session ID now"},
		"logged on anew":  {now(func(w *winSession) { w.logon++ }), "its user has logged on anew since"},
		"away by now":     {now(func(w *winSession) { w.state = 4 }), "it is not active but Disconnected"},
		"used since":      {now(func(w *winSession) { w.lastInput++ }), "the user has done something since"},
		"on the console":  {now(func(w *winSession) { w.name = "Console" }), "it is the console session"},
		"without a right": {func(f *fakeHost) { f.codes["Disconnect"] = 0x80070005 }, "RpcDisconnect: access denied (0x80070005)"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t, c.edit)
			err := f.driver(t).Disconnect(within(t), host, mary())
			var refused *sessions.RefusedError
			if !errors.As(err, &refused) || refused.Why != c.why || refused.Act != "disconnected" {
				t.Errorf("%v, want refused: %s", err, c.why)
			}
			if n := f.count("Disconnect"); n > 0 && f.codes["Disconnect"] == 0 {
				t.Errorf("%d disconnects", n)
			}
		})
	}
	unknown := mary()
	unknown.Incarnation = ""
	var refused *sessions.RefusedError
	if err := newHost(t).driver(t).Disconnect(within(t), host, unknown); !errors.As(err, &refused) {
		t.Error(err)
	}
	used := mary() // what is not known is not asked for
	used.LastInputAt = time.Time{}
	if err := newHost(t).driver(t).Disconnect(within(t), host, used); err != nil {
		t.Error(err)
	}
}

func TestMessage(t *testing.T) {
	f := newHost(t)
	if err := f.driver(t).Message(within(t), host, mary(), "rdpbroker", "Grüße 🙂,\nMary\x07"); err != nil {
		t.Fatal(err)
	}
	f.change(func(f *fakeHost) {
		if want := []string{"2 64 0 true rdpbroker: Grüße 🙂,\nMary"}; !slices.Equal(f.messages, want) {
			t.Errorf("shown %q, want %q", f.messages, want)
		}
		f.find(2).user = "bob"
	})
	var refused *sessions.RefusedError
	if err := f.driver(t).Message(within(t), host, mary(), "rdpbroker", "hello"); !errors.As(err, &refused) || refused.Act != "sent a message" {
		t.Error(err)
	}
	denied := newHost(t, func(f *fakeHost) { f.codes["ShowMessageBox"] = 0x80070005 })
	if err := denied.driver(t).Message(within(t), host, mary(), "rdpbroker", "hello"); !errors.As(err, &refused) || refused.Why != "RpcShowMessageBox: access denied (0x80070005)" {
		t.Error(err)
	}
	if err := newHost(t, oldHost).driver(t).Message(within(t), host, mary(), "rdpbroker", "hello"); !errors.As(err, &refused) {
		t.Error(err)
	}
}
