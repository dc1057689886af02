package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// desk is a host's end of messages and disconnects.
type desk struct {
	message    func(ctx context.Context, h sessions.Host, s sessions.Session, title, text string) error
	disconnect func(ctx context.Context, h sessions.Host, s sessions.Session) error
}

func (d desk) Message(ctx context.Context, h sessions.Host, s sessions.Session, title, text string) error {
	return d.message(ctx, h, s, title, text)
}

func (d desk) Disconnect(ctx context.Context, h sessions.Host, s sessions.Session) error {
	return d.disconnect(ctx, h, s)
}

// idle has an active session's user do nothing for ago.
func (h *modelHost) idle(account string, ago time.Duration) *modelHost {
	h.with(account, 0)
	h.sessions[len(h.sessions)-1].LastInputAt = time.Now().Add(-ago)
	return h
}

// used is a user who presses a key.
func (w *world) used(host, account string) {
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	w.model.host(host).find(account).LastInputAt = time.Now()
}

func (w *world) state(host, account string) sessions.State {
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	return w.model.host(host).find(account).State
}

// idleFarm disconnects who has done nothing for an hour.
func idleFarm(t *testing.T, hosts ...*modelHost) (w *world, said *[]string) {
	farm := evicting()
	farm.Policy.Eviction.IdleActive, farm.Policy.Eviction.IdleWarning = time.Hour, 2*time.Minute
	w = newWorld(t, farm, hosts...)
	said = &[]string{}
	w.desk = &desk{
		message: func(_ context.Context, h sessions.Host, s sessions.Session, title, text string) error {
			*said = append(*said, fmt.Sprintf("%s on %s: %s: %s", s.Account, h.Name, title, text))
			return nil
		},
		disconnect: func(_ context.Context, h sessions.Host, s sessions.Session) error {
			w.model.mu.Lock()
			x := w.model.host(h.Name).find(s.Account.String())
			if x.State != sessions.StateActive || x.LastInputAt.After(s.LastInputAt) {
				w.model.mu.Unlock()
				return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, s), Why: "it was used"}
			}
			w.model.mu.Unlock()
			w.model.disconnect(h.Name, s.Account.String())
			return nil
		},
	}
	return w, said
}

func TestIdleUsersAreWarnedAndDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, said := idleFarm(t, newHost("ts1", 2).idle("lazy", 2*time.Hour).idle("busy", time.Minute), newHost("ts2", 1).idle("lazier", 3*time.Hour))
		w.reading(20 * time.Second)
		if len(*said) != 0 {
			t.Fatalf("at once: %q", *said)
		}
		w.reading(20 * time.Second)
		if len(*said) != 1 || !strings.HasPrefix((*said)[0], "lazier on ts2: This session is not in use: You have done nothing here for 3 hours") || !strings.Contains((*said)[0], "In 2 minutes you will be disconnected.") {
			t.Fatalf("said: %q", *said)
		}
		w.reading(90 * time.Second)
		if w.state("ts2", "lazier") != sessions.StateActive {
			t.Error("the countdown is not over")
		}
		w.reading(40 * time.Second)
		if w.state("ts2", "lazier") != sessions.StateDisconnected || !w.has("ts2", "lazier") {
			t.Errorf("after the countdown: %s; %q", w.state("ts2", "lazier"), w.events())
		}
		w.reading(10 * time.Minute)
		if w.state("ts1", "lazy") != sessions.StateDisconnected || w.state("ts1", "busy") != sessions.StateActive {
			t.Errorf("%q", w.events())
		}
		// Whoever needs a slot waits as long as min_disconnected has it: nobody was logged off.
		w.connect(named("alice")).expect("waiting")
		if n := w.count(audit.Evicting); n != 0 {
			t.Errorf("%d logoffs", n)
		}
		want := []string{"decided disconnect-idle", "idle-warned", "idle-disconnected", "decided disconnect-idle", "idle-warned", "idle-disconnected", "decided wait"}
		if got := w.events(); !slices.Equal(got, want) {
			t.Errorf("events %q", got)
		}
		for _, r := range w.recorded(audit.IdleDisconnected) {
			if r.Decision.Idle == nil || r.Account.User != r.Decision.Idle.Session.Account.User || r.Decision.Victim != nil || r.Mode != "evict" {
				t.Errorf("%+v", r)
			}
		}
	})
}

// Whoever does anything stays, whenever that shows.
func TestWhoComesBackStays(t *testing.T) {
	for name, when := range map[string]func(w *world){
		"in the countdown": func(w *world) {
			w.used("ts1", "lazy")
			w.reading(10 * time.Minute)
		},
		"after the last reading": func(w *world) {
			w.reading(110 * time.Second)
			time.Sleep(15 * time.Second)
			w.read() // is begun
			w.used("ts1", "lazy")
		},
		"kept by an operator": func(w *world) {
			w.must(w.b.Keep(w.ref("ts1", "lazy"), time.Now().Add(time.Hour), "anna"))
			w.reading(10 * time.Minute)
		},
		"the kill switch": func(w *world) {
			w.b.SetEviction(mode(placement.Off), "anna")
			w.reading(10 * time.Minute)
		},
		"a slot is free": func(w *world) {
			w.model.logoff("ts1", "zoe")
			w.reading(10 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, said := idleFarm(t, newHost("ts1", 2).idle("lazy", 2*time.Hour).with("zoe", 0))
				if name == "after the last reading" {
					take := w.desk.disconnect
					w.desk.disconnect = func(ctx context.Context, h sessions.Host, s sessions.Session) error {
						w.used("ts1", "lazy")
						return take(ctx, h, s)
					}
				}
				w.reading(40 * time.Second)
				if len(*said) != 1 {
					t.Fatalf("said: %q", *said)
				}
				when(w)
				if w.state("ts1", "lazy") != sessions.StateActive || w.count(audit.IdleDisconnected) != 0 || w.count(audit.IdleSpared) != 1 {
					t.Errorf("%s; %q", w.state("ts1", "lazy"), w.events())
				}
				if len(*said) != 1 {
					t.Errorf("warned again: %q", *said)
				}
			})
		})
	}
}

func TestWhoIsNotDisconnected(t *testing.T) {
	for name, set := range map[string]func(w *world, e *placement.Eviction){
		"not wanted":      func(_ *world, e *placement.Eviction) { e.IdleActive = 0 },
		"protected":       func(_ *world, e *placement.Eviction) { e.Protect = []string{"la*"} },
		"not long enough": func(_ *world, e *placement.Eviction) { e.IdleActive = 4 * time.Hour },
		"off":             func(_ *world, e *placement.Eviction) { e.Mode = placement.Off },
		"shadow":          func(_ *world, e *placement.Eviction) { e.Mode = placement.Shadow },
		"nothing can":     func(w *world, _ *placement.Eviction) { w.desk = nil },
		"hours": func(_ *world, e *placement.Eviction) {
			e.Hours.Windows = []placement.Window{{Days: placement.EveryDay, From: 12 * 60, To: 13 * 60}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, said := idleFarm(t, newHost("ts1", 1).idle("lazy", 2*time.Hour))
				set(w, &w.farm.Policy.Eviction)
				w.b.SetConfig(w.config())
				w.reading(30 * time.Minute)
				if len(*said) != 0 || w.state("ts1", "lazy") != sessions.StateActive {
					t.Errorf("said %q; %q", *said, w.events())
				}
				if n := w.count(audit.Decided); n != map[bool]int{true: 1}[name == "shadow"] {
					t.Errorf("%d decisions: %q", n, w.events())
				}
				if name == "nothing can" {
					c := w.b.Explain(farmName, named("alice")).Candidates
					if !slices.ContainsFunc(c, func(c placement.Candidate) bool {
						return c.As == "idle" && strings.Contains(c.Why, "could warn its users")
					}) {
						t.Errorf("explain does not say so: %+v", c)
					}
				}
			})
		})
	}
}

// A user who cannot be warned is not disconnected, and is left alone for a while.
func TestNoWarningNoDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, said := idleFarm(t, newHost("ts1", 1).idle("lazy", 2*time.Hour))
		w.desk.message = func(ctx context.Context, _ sessions.Host, _ sessions.Session, _, _ string) error {
			*said = append(*said, "")
			<-ctx.Done()
			return errors.New("no answer")
		}
		w.reading(9 * time.Minute)
		if len(*said) != 1 || w.count(audit.IdleFailed) != 1 || w.state("ts1", "lazy") != sessions.StateActive {
			t.Errorf("%d warnings, %q", len(*said), w.events())
		}
		w.reading(3 * time.Minute)
		if len(*said) != 2 {
			t.Errorf("it is not tried again: %q", w.events())
		}
	})
}
