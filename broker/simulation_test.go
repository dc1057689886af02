package broker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// TestSimulation lets an office work for a while: users who come and go, sit
// at password prompts, lose their lines, type nothing at all or the same name
// twice; hosts that are read now and then, cannot be dialled for a moment, and
// log sessions off slowly, or not at all; an operator who gives orders; and on
// every other day a slot that is to be free ahead of need. All the while
//
//   - nobody is sent to a host that turns them away at its limit,
//   - there are never more sessions and promises than slots,
//   - nobody with a disconnected session is placed beside it, and
//   - nobody is logged off who is protected, kept, connected, or has not been away long.
func TestSimulation(t *testing.T) {
	happened := map[audit.Event]int{}
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for event, n := range simulate(t, seed, 40*time.Minute) {
					happened[event] += n
				}
			})
		})
	}
	for _, event := range []audit.Event{audit.Evicted, audit.EvictionRefused, audit.EvictionFailed, audit.Confirmed, audit.Refused, audit.Left} {
		if happened[event] == 0 {
			t.Errorf("nothing of the kind %q has happened: the simulation is too tame", event)
		}
	}
	t.Logf("%v", happened)
}

var seeds = flag.Uint64("seeds", 3, "how many days TestSimulation tries")

type simulation struct {
	*world
	t       *testing.T
	publish sync.Mutex // one reading is published at a time

	mu       sync.Mutex
	promised map[*broker.Assignment]promise
	undialed map[string]time.Time // when a host could not be dialled last
}

// promise is a connection that was sent to a host.
type promise struct {
	user  string
	until time.Time // the slot is promised until then
}

// unread is how old a reading may become. Whoever logs on less than that before
// their promise expires may not have been seen when it does.
const unread = 35 * time.Second

const minDisconnected = 3 * time.Minute

// simulate is one day of the given length; it returns how often what has happened.
func simulate(t *testing.T, seed uint64, length time.Duration) map[audit.Event]int {
	rnd := rand.New(rand.NewPCG(seed, 1))
	farm := evicting()
	farm.Wait = 4 * time.Minute
	farm.Policy.Balance = placement.Balance(seed % 3)
	farm.Policy.Eviction.MinDisconnected = minDisconnected
	farm.Policy.Eviction.Protect = []string{"svc-*"}
	farm.Policy.Eviction.Headroom = int(seed % 2)
	hosts := []*modelHost{
		newHost("ts1", 2).with("old1", time.Hour).with("svc-backup", time.Hour),
		newHost("ts2", 3).with("old2", 2*time.Hour),
		newHost("ts3", 3).with("old3", 3*time.Hour).with("old4", time.Minute),
	}
	for _, h := range hosts {
		h.FreshFor = time.Minute
	}
	w := newWorld(t, farm, hosts...)
	s := &simulation{world: w, t: t, promised: map[*broker.Assignment]promise{}, undialed: map[string]time.Time{}}

	day, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	readers, stopReading := context.WithCancel(t.Context())
	defer stopReading()
	var users, reading sync.WaitGroup
	for _, h := range w.model.hosts {
		name, wake := h.Host.Name, make(chan struct{}, 1)
		s.setEvictor(name, s.evictorOf(rand.New(rand.NewPCG(seed, uint64(len(name))))))
		r := rand.New(rand.NewPCG(seed, rnd.Uint64()))
		reading.Go(func() { s.readNowAndThen(readers, name, wake, r) })
		next := w.refresh
		w.mu.Lock()
		w.refresh = func(host string) {
			if next != nil {
				next(host)
			}
			if host == name {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		}
		w.mu.Unlock()
	}
	for i := range 14 {
		id := named(fmt.Sprintf("user%02d", i))
		id.Known = i%7 != 6 // nobody is logged off for these
		if i == 13 {        // one who gives no name
			id = stranger(0)
			id.Said = ""
		}
		r := rand.New(rand.NewPCG(seed, rnd.Uint64()))
		users.Go(func() { s.live(day, fmt.Sprintf("user%02d", i), id, r) })
	}
	r := rand.New(rand.NewPCG(seed, rnd.Uint64()))
	users.Go(func() { s.operate(day, r) })
	users.Wait()
	stopReading()
	reading.Wait()

	// The day is over: nothing is left behind.
	time.Sleep(10 * time.Minute)
	s.read()
	time.Sleep(2 * time.Second)
	if st := w.b.Status(); len(st.Waiting)+len(st.Reservations)+len(st.Leaving) > 0 {
		t.Errorf("left behind: %+v", st)
	}
	if !w.has("ts1", "svc-backup") {
		t.Error("a protected session was logged off")
	}
	happened := map[audit.Event]int{}
	for _, r := range w.records {
		happened[r.Event]++
	}
	return happened
}

// live is one user's day.
func (s *simulation) live(ctx context.Context, user string, id sessions.Identity, rnd *rand.Rand) {
	nap := func(most time.Duration) { time.Sleep(time.Duration(rnd.Int64N(int64(most)))) }
	for ctx.Err() == nil {
		nap(4 * time.Minute)
		patience := time.Hour
		if rnd.IntN(5) == 0 {
			patience = time.Duration(rnd.Int64N(int64(time.Minute)))
		}
		a := s.admit(ctx, user, id, patience)
		if a == nil {
			continue
		}
		switch rnd.IntN(10) {
		case 0: // the host does not answer
			s.leave(a, errors.New("connection refused"))
			continue
		case 1: // thinks better of it, or fails to type the password
			nap(20 * time.Second)
			s.leave(a, nil)
			continue
		case 2: // the client opens a second connection, and drops the first
			nap(5 * time.Second)
			b := s.admit(ctx, user, id, time.Hour)
			s.leave(a, nil)
			if a = b; a == nil {
				continue
			}
		}
		prompt := s.left(a)
		if prompt <= 0 {
			s.leave(a, nil) // a connection that joined a promise about to expire
			continue
		}
		nap(prompt)
		if !s.logon(user, a) {
			s.leave(a, nil)
			continue
		}
		if rnd.IntN(4) > 0 { // now and then the line is cut before anybody has seen the session
			nap(6 * time.Minute)
		}
		if rnd.IntN(3) == 0 {
			s.logoff(a.Host.Name, user)
		} else {
			s.disconnect(a.Host.Name, user)
		}
		s.leave(a, nil)
		if rnd.IntN(6) == 0 { // connects past the broker, back to what is there
			nap(5 * time.Minute)
			if s.reconnectDirectly(user) {
				nap(time.Minute)
				s.disconnectEverywhere(user)
			}
		}
	}
}

// left is how long a's user may sit at the password prompt.
func (s *simulation) left(a *broker.Assignment) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(time.Minute, time.Until(s.promised[a].until)-unread)
}

func (s *simulation) admit(ctx context.Context, user string, id sessions.Identity, patience time.Duration) *broker.Assignment {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := s.b.Admit(ctx, farmName, id)
	if err != nil {
		var refused *broker.RefusedError
		if !errors.As(err, &refused) && ctx.Err() == nil {
			s.t.Errorf("%s: %v", user, err)
		}
		return nil
	}
	p := promise{user: user}
	for _, r := range s.b.Status().Reservations {
		if r.ID == a.Reservation && r.Host == a.Host.Name {
			p.until = r.ExpiresAt
		}
	}
	if time.Until(p.until) <= 0 {
		s.t.Errorf("%s was sent to %s without a reservation", user, a.Host.Name)
	}
	s.model.mu.Lock()
	defer s.model.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promised[a] = p
	s.checkSlots(a.Host.Name)
	if a.Decision.Kind == placement.Place && len(id.Accounts) == 1 {
		s.checkOwn(user, a)
	}
	return a
}

// checkSlots: sessions and promises fit into the host. The caller holds both locks.
func (s *simulation) checkSlots(host string) {
	h := s.model.host(host)
	promises := map[string]bool{}
	for a, p := range s.promised {
		if a.Host.Name == host && h.find(p.user) == nil && time.Until(p.until) > 0 {
			promises[p.user] = true
		}
	}
	if len(h.sessions)+len(promises) > h.limit {
		s.t.Errorf("%s: %s has %d sessions and the promises %v on %d slots", time.Now().Format(time.TimeOnly), host, len(h.sessions), promises, h.limit)
		s.describe(h)
	}
}

// describe tells what the broker knew of h and what is true. The caller holds both locks.
func (s *simulation) describe(h *modelHost) {
	const clock = time.TimeOnly
	for _, x := range h.sessions {
		s.t.Logf("  session %d of %s, %s since %s, logged on %s", x.ID, x.Account, x.State, x.DisconnectedAt.Format(clock), x.LogonAt.Format(clock))
	}
	for _, x := range h.last.Sessions {
		s.t.Logf("  read at %s: %d of %s, %s", h.last.ReadAt.Format(clock), x.ID, x.Account, x.State)
	}
	st := s.b.Status()
	for _, r := range st.Reservations {
		s.t.Logf("  reservation %d for %s on %s, %s, %s to %s, seen %v", r.ID, r.Key, r.Host, r.Decision.Kind, r.MadeAt.Format(clock), r.ExpiresAt.Format(clock), r.Seen)
	}
	s.t.Logf("  leaving %v", st.Leaving)
}

// checkOwn: somebody who is placed has no disconnected session that the broker
// knows of and could have sent them to. The caller holds both locks.
func (s *simulation) checkOwn(user string, a *broker.Assignment) {
	for _, h := range s.model.hosts {
		if h.Host.Name == a.Host.Name || h.last == nil || time.Since(s.undialed[h.Host.Name]) <= 5*time.Second {
			continue
		}
		for _, x := range h.last.Sessions {
			if x.Account.User == user && x.State == sessions.StateDisconnected && !s.isLeaving(sessions.RefOf(h.Host.Name, x)) {
				s.t.Errorf("%s was placed on %s (%s) beside their session on %s", user, a.Host.Name, a.Decision.Reason, h.Host.Name)
			}
		}
	}
}

func (s *simulation) isLeaving(ref sessions.Ref) bool {
	for _, l := range s.b.Status().Leaving {
		if l == ref {
			return true
		}
	}
	return false
}

// logon types the password. It reports whether there is a session now.
func (s *simulation) logon(user string, a *broker.Assignment) bool {
	if err := s.model.logon(a.Host.Name, user); err != nil {
		s.t.Errorf("%s, sent there by %s: %s: %v", time.Now().Format(time.TimeOnly), a.Decision.Kind, a.Decision.Reason, err)
		return false
	}
	return true
}

func (s *simulation) leave(a *broker.Assignment, dialErr error) {
	s.mu.Lock()
	delete(s.promised, a)
	if dialErr != nil {
		s.undialed[a.Host.Name] = time.Now()
	}
	s.mu.Unlock()
	a.Close(dialErr)
}

func (s *simulation) reconnectDirectly(user string) bool {
	s.model.mu.Lock()
	defer s.model.mu.Unlock()
	for _, h := range s.model.hosts {
		if x := h.find(user); x != nil {
			x.State = sessions.StateActive
			return true
		}
	}
	return false
}

func (s *simulation) disconnectEverywhere(user string) {
	for _, h := range s.model.hosts {
		s.disconnect(h.Host.Name, user)
	}
}

// readNowAndThen reads host every few seconds, and soon when asked to. A reading
// takes its time: what it says is as old as its beginning.
func (s *simulation) readNowAndThen(ctx context.Context, host string, wake <-chan struct{}, rnd *rand.Rand) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-wake:
		case <-time.After(time.Duration(rnd.Int64N(int64(30 * time.Second)))):
		}
		s.model.mu.Lock()
		r := s.model.host(host).report()
		s.model.mu.Unlock()
		time.Sleep(time.Duration(rnd.Int64N(int64(3 * time.Second))))
		s.publish.Lock()
		s.model.mu.Lock()
		s.model.host(host).last = r
		s.model.mu.Unlock()
		s.b.Observe(s.lastRead())
		s.publish.Unlock()
	}
}

// evictorOf makes hosts that mostly do as told, some of them slowly.
func (s *simulation) evictorOf(rnd *rand.Rand) func(context.Context, sessions.Host, sessions.Session) error {
	var mu sync.Mutex
	draw := func(n int64) int64 {
		mu.Lock()
		defer mu.Unlock()
		return rnd.Int64N(n)
	}
	return func(ctx context.Context, h sessions.Host, v sessions.Session) error {
		if v.State != sessions.StateDisconnected || time.Since(v.DisconnectedAt) < minDisconnected {
			s.t.Errorf("asked to log off %+v", v)
		}
		s.checkKept(sessions.RefOf(h.Name, v))
		took := time.Duration(draw(int64(20 * time.Second)))
		kind := draw(12)
		if kind == 0 {
			took += time.Minute // beyond the soft limit
		}
		select {
		case <-time.After(took):
		case <-ctx.Done():
			return &sessions.StuckError{Ref: sessions.RefOf(h.Name, v), State: v.State}
		}
		switch kind {
		case 1:
			return &sessions.RefusedError{Ref: sessions.RefOf(h.Name, v), Why: "access is denied"}
		case 2:
			return errors.New("connection reset, before anything was done")
		case 3:
			_ = s.model.evict(h.Name, v)
			return errors.New("connection reset, after it was done")
		}
		return s.model.evict(h.Name, v)
	}
}
