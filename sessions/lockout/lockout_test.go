package lockout_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

// no is a driver's error.
type no struct {
	host string
	lockout.Refusal
}

func (e *no) Error() string { return e.host + " says no" }

func TestGate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	g := lockout.New[string](func() time.Time { return now })
	pass := func(password string, want bool) {
		t.Helper()
		err := g.Pass(password)
		if (err == nil) != want {
			t.Errorf("at %s: %v", now.Format(time.TimeOnly), err)
		}
		var why *no
		if err != nil && (!errors.As(err, &why) || why.host != "ts1") {
			t.Errorf("the reason is %v", err)
		}
	}
	shut := func() {
		t.Helper()
		why := &no{host: "ts1"}
		if why.RetryAfter() != 0 {
			t.Error("a pause without a gate")
		}
		if err := fmt.Errorf("log on: %w", why); g.Shut("bad", lockout.Pause, err) != err {
			t.Error("another error")
		}
		if why.RetryAfter() != lockout.Pause || !why.RetryAt.Equal(now.Add(lockout.Pause)) {
			t.Errorf("to be tried in %s, at %s", why.RetryAfter(), why.RetryAt)
		}
	}

	pass("bad", true)
	shut()
	pass("bad", false)
	pass("good", true) // a changed password

	g.Refresh()
	pass("bad", true)
	pass("bad", false) // one try only
	shut()
	g.Refresh() // as after every connection of a user
	pass("bad", false)
	now = now.Add(lockout.RefreshPause)
	g.Refresh()
	pass("bad", true)
	shut()

	now = now.Add(lockout.Pause - time.Second)
	pass("bad", false)
	now = now.Add(time.Second)
	pass("bad", true)
	g.Open()
	pass("bad", true)

	if other := errors.New("x"); g.Shut("bad", lockout.Pause, other) != other || g.Pass("bad") != nil {
		t.Error("an error of another kind shut the gate")
	}
}
