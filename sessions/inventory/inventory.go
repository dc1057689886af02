// Package inventory keeps one watcher per host and publishes the newest picture
// of the farm. Readers take an immutable snapshot with one atomic load; they are
// never blocked and never see half a change.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Watcher reads one host. Watch blocks until ctx ends or the host is lost, and
// calls publish with a full report whenever it has one. A host that cannot be
// read is an error, never an empty report. Watch is called again after an error.
type Watcher interface {
	Watch(ctx context.Context, h sessions.Host, publish func(sessions.Report)) error
}

// Refresher is what a Watcher may also be: it can be asked for a reading now.
// Refresh does not block, and several requests may become one reading.
type Refresher interface{ Refresh() }

// retryLater is an error that knows how long a retry must wait: a refused
// password must not be tried again at once, or the account gets locked out.
type retryLater interface{ RetryAfter() time.Duration }

// Entry is one host and how it is read.
type Entry struct {
	Host    sessions.Host
	Watcher Watcher
	// FreshFor is how old a reading may be for placements; 0 means DefaultFreshFor.
	FreshFor time.Duration
	// Same identifies the watcher's configuration: on Apply an entry with an equal
	// value keeps its running watcher and its reading. Nil is never the same.
	Same any
}

// DefaultFreshFor is the age up to which a reading is used for placements.
const DefaultFreshFor = 60 * time.Second

const (
	// Back-off after a watcher's error: doubled from first to last, with jitter.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// refreshSpacing is the least time between two readings that were asked for.
	refreshSpacing = 500 * time.Millisecond
	// longestSpacing is the same where one after the other has brought no news: a crowd
	// of connections that lead to no logon asks again and again.
	longestSpacing = 4 * time.Second
	// steady is how long a watcher must have run for its next error to be a first one.
	steady = time.Minute
)

// Inventory watches the hosts. Make one with New and Run it.
type Inventory struct {
	log       *zap.Logger
	onChange  func(*sessions.Snapshot)
	snapshot  atomic.Pointer[sessions.Snapshot]
	publishMu sync.Mutex // one publication at a time, so that onChange sees them in order

	mu       sync.Mutex
	ctx      context.Context // of Run; nil before it and after
	watching map[string]*watched
	wg       sync.WaitGroup
}

// watched is one host under watch. Its state is guarded by Inventory.mu.
type watched struct {
	entry Entry
	state sessions.HostState
	meter *sessions.Meter    // of its readings so far
	stop  context.CancelFunc // nil until Run
	// again wakes a watcher that waits for its next try.
	again chan struct{}
	// refreshedAt is when a reading was last asked for; later, not nil, is the timer that
	// will ask for the next.
	refreshedAt time.Time
	later       *time.Timer
	pressed     bool          // the last one was asked for by the timer
	spacing     time.Duration // between readings that are asked for; 0: refreshSpacing
}

// New makes an inventory of entries. It starts nothing. onChange, if not nil, is
// called with every new snapshot, in order, from the goroutine that read it; it
// must not block for long.
func New(entries []Entry, onChange func(*sessions.Snapshot), log *zap.Logger) *Inventory {
	if log == nil {
		log = zap.NewNop()
	}
	inv := &Inventory{log: log, onChange: onChange, watching: map[string]*watched{}}
	for _, e := range entries {
		inv.watching[e.Host.Name] = newWatched(e)
	}
	inv.snapshot.Store(inv.assemble())
	return inv
}

func newWatched(e Entry) *watched {
	if e.FreshFor == 0 {
		e.FreshFor = DefaultFreshFor
	}
	return &watched{
		entry: e,
		state: sessions.HostState{Host: e.Host, FreshFor: e.FreshFor},
		again: make(chan struct{}, 1),
	}
}

// Snapshot is the newest picture of the farm, never nil.
func (inv *Inventory) Snapshot() *sessions.Snapshot { return inv.snapshot.Load() }

// Run watches until ctx ends, and returns when every watcher has returned.
func (inv *Inventory) Run(ctx context.Context) error {
	inv.mu.Lock()
	inv.ctx = ctx
	for _, w := range inv.watching {
		inv.start(w)
	}
	inv.mu.Unlock()
	inv.publishAll()

	<-ctx.Done()
	inv.mu.Lock()
	inv.ctx = nil // Apply starts nothing from here on
	inv.mu.Unlock()
	inv.wg.Wait()
	return nil
}

// Refresh asks for a reading of host soon: at once, or refreshSpacing after the
// last request, so that strangers who connect and leave do not keep hosts busy; up to
// longestSpacing where they do so all the time and nothing comes of it.
// It does not block.
func (inv *Inventory) Refresh(host string) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	w := inv.watching[host]
	if w == nil || inv.ctx == nil || w.later != nil {
		return
	}
	r, ok := w.entry.Watcher.(Refresher)
	if !ok {
		return
	}
	wait := max(w.spacing, refreshSpacing) - time.Since(w.refreshedAt)
	if wait <= 0 {
		w.refreshedAt, w.pressed = time.Now(), false
		r.Refresh()
		return
	}
	w.later = time.AfterFunc(wait, func() {
		inv.mu.Lock()
		w.later, w.refreshedAt, w.pressed = nil, time.Now(), true
		inv.mu.Unlock()
		r.Refresh()
	})
}

// Retry ends the wait of a host whose watcher failed, so that it is tried at
// once; for an operator's word that the cause is mended.
func (inv *Inventory) Retry(host string) {
	inv.mu.Lock()
	w := inv.watching[host]
	inv.mu.Unlock()
	if w != nil {
		select {
		case w.again <- struct{}{}:
		default:
		}
	}
}

// Apply changes what is watched: hosts that are gone are stopped, new ones
// started, and those whose Entry.Same is unchanged keep their watcher and reading.
func (inv *Inventory) Apply(entries []Entry) {
	inv.mu.Lock()
	next := make(map[string]*watched, len(entries))
	for _, e := range entries {
		old := inv.watching[e.Host.Name]
		w := newWatched(e)
		if old != nil && e.Same != nil && reflect.DeepEqual(old.entry.Same, e.Same) {
			w.entry.Watcher = old.entry.Watcher
			w.state.Report, w.state.Problem = old.state.Report, old.state.Problem
			w.state.Usage, w.meter = old.state.Usage, old.meter
			w.stop, w.again = old.stop, old.again
			// The running goroutine finds its host by name, so it goes on with w.
			delete(inv.watching, e.Host.Name)
		}
		next[e.Host.Name] = w
	}
	for _, gone := range inv.watching {
		if gone.stop != nil {
			gone.stop()
		}
	}
	inv.watching = next
	for _, w := range next {
		if w.stop == nil && inv.ctx != nil {
			inv.start(w)
		}
	}
	inv.mu.Unlock()
	inv.publishAll()
}

// start begins to watch w. The caller holds mu and has seen that Run is under way.
func (inv *Inventory) start(w *watched) {
	ctx, stop := context.WithCancel(inv.ctx)
	w.stop = stop
	inv.wg.Add(1)
	go func() {
		defer inv.wg.Done()
		defer stop()
		inv.watch(ctx, w.entry, w.again)
	}()
}

// watch keeps one watcher running, with a growing and jittered pause after errors.
func (inv *Inventory) watch(ctx context.Context, e Entry, again <-chan struct{}) {
	name := e.Host.Name
	pause := firstRetry
	for {
		began := time.Now()
		err := e.Watcher.Watch(ctx, e.Host, func(r sessions.Report) { inv.report(ctx, name, r) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the watcher ended without a reason")
		}
		if time.Since(began) > steady {
			pause = firstRetry
		}
		wait := pause/2 + rand.N(pause)
		var later retryLater
		if errors.As(err, &later) {
			wait = max(wait, later.RetryAfter())
		}
		inv.log.Warn("host cannot be read", zap.String("host", name), zap.Error(err), zap.Duration("retry_in", wait))
		inv.problem(ctx, name, err)
		pause = min(2*pause, lastRetry)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-again:
		}
	}
}

func (inv *Inventory) report(ctx context.Context, name string, r sessions.Report) {
	inv.change(ctx, name, func(w *watched) {
		s := &w.state
		if s.Problem != "" || s.Report == nil {
			inv.log.Info("host is read", zap.String("host", name), zap.String("source", r.Source), zap.Int("sessions", len(r.Sessions)))
		}
		w.meter = w.meter.Next(name, &r)
		w.space(&r)
		s.Report, s.Problem, s.Usage = &r, "", w.meter.Usage()
	})
}

func (inv *Inventory) problem(ctx context.Context, name string, err error) {
	inv.change(ctx, name, func(w *watched) { w.state.Problem = fmt.Sprintf("%v", err) })
}

// space sets how soon the next reading may be asked for, after r: not so soon only if
// r brings no news, and was wanted again soon after the one before.
func (w *watched) space(r *sessions.Report) {
	same := func(a, b sessions.Session) bool {
		return a.State == b.State && sessions.RefOf("", a) == sessions.RefOf("", b)
	}
	if old := w.state.Report; !w.pressed || old == nil || !slices.EqualFunc(old.Sessions, r.Sessions, same) {
		w.spacing = refreshSpacing
		if w.later != nil && w.later.Stop() { // somebody asked while r was on the way
			w.later.Reset(refreshSpacing - time.Since(w.refreshedAt))
		}
		return
	}
	w.spacing = min(2*max(w.spacing, refreshSpacing), longestSpacing)
}

// change alters one host's state and publishes, unless the watcher that asks for
// it has been stopped in the meantime.
func (inv *Inventory) change(ctx context.Context, name string, alter func(*watched)) {
	inv.mu.Lock()
	w := inv.watching[name]
	if w == nil || ctx.Err() != nil {
		inv.mu.Unlock()
		return
	}
	alter(w)
	inv.mu.Unlock()
	inv.publish(name)
}

// publish makes one host's newest state known, at little cost for the others.
func (inv *Inventory) publish(name string) {
	inv.publishMu.Lock()
	defer inv.publishMu.Unlock()
	inv.mu.Lock()
	w := inv.watching[name]
	if w == nil { // gone in the meantime, as the next publication will tell
		inv.mu.Unlock()
		return
	}
	state := w.state
	inv.mu.Unlock()
	if s, ok := inv.snapshot.Load().With(state); ok {
		inv.store(s)
	} // else it is new: whoever added it publishes all
}

// publishAll makes known which hosts there are, with their newest states.
func (inv *Inventory) publishAll() {
	inv.publishMu.Lock()
	defer inv.publishMu.Unlock()
	inv.mu.Lock()
	s := inv.assemble()
	inv.mu.Unlock()
	inv.store(s)
}

// store makes s the newest. The caller holds publishMu.
func (inv *Inventory) store(s *sessions.Snapshot) {
	inv.snapshot.Store(s)
	if inv.onChange != nil {
		inv.onChange(s)
	}
}

func (inv *Inventory) assemble() *sessions.Snapshot {
	hosts := make([]sessions.HostState, 0, len(inv.watching))
	for _, w := range inv.watching {
		hosts = append(hosts, w.state)
	}
	return sessions.NewSnapshot(hosts)
}
