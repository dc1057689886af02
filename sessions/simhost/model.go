package simhost

import (
	"slices"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// ListenerID is the ID of the host's RDP listener.
const ListenerID = sessions.FirstListenerID

// Options are the behaviour switches of a host. They can be changed while it
// runs, see Model.Configure. The zero value is a Windows Server 2008 or later
// with no limit, whose logoffs are immediate.
type Options struct {
	// Slots is the session limit; 0 means none.
	Slots int
	// CountDisconnected: disconnected sessions hold slots, as on Windows 2000
	// and 2003 in administration mode. False: only connected ones do (2008+).
	CountDisconnected bool
	// ManySessionsPerUser is fSingleSessionPerUser=0: a user who has an active
	// session gets a second one instead of taking the first over.
	ManySessionsPerUser bool
	// Drain refuses new logons and lets users back in to their sessions.
	Drain Drain
	// LogonsDisabled is WinStationsDisabled=1: not even reconnects get in.
	LogonsDisabled bool
	// MaxDisconnection is MaxDisconnectionTime: the host itself logs off what
	// has been disconnected for so long. 0 means never. The console is exempt.
	MaxDisconnection time.Duration
	// Logoff is how sessions log off that were not seeded with their own plan.
	Logoff LogoffPlan
	// ClockSkew is added to the clock to get the host's own time, in which it
	// writes every time it tells.
	ClockSkew time.Duration
	// ListError, if set, is what quser and qwinsta fail with:
	// {5, "Access is denied."}, {1722, "The RPC server is unavailable."}.
	ListError *WinError
	// Faults are how the WinRM endpoint misbehaves; the first that matches a
	// request hits it.
	Faults []Fault
}

// Drain is TSServerDrainMode.
type Drain uint8

// The three drain modes.
const (
	DrainOff          Drain = iota // all logons are allowed
	DrainUntilRestart              // no new logons until Model.Reboot
	DrainOn                        // no new logons
)

// LogoffPlan is how a session behaves when it is told to log off. The zero
// value logs off at once.
type LogoffPlan struct {
	// Takes is how long the session stays visible, in state Shows, before it is
	// gone: profiles are unloaded, logoff scripts run. Real ones take 0-300 s.
	Takes time.Duration
	// Shows is the state while it goes; StateUnknown means StateDown. (A
	// capture of what Windows shows in this time is not known to us.)
	Shows sessions.State
	// Sticks: the session never goes; it stays in state Shows and holds its slot.
	Sticks bool
	// Refused: the host says no (ERROR_CTX_WINSTATION_ACCESS_DENIED, 7045).
	Refused bool
}

// session is one entry of the model. Its times are in the host's own clock.
type session struct {
	sessions.Session
	hidden     bool        // callers without the Query right do not see it
	plan       *LogoffPlan // nil: Options.Logoff
	going      *departure  // set from the moment it is told to log off
	attachment *Attachment // the connected client, nil if there is none or it was seeded
	busy       float64     // processors that its programs keep busy
	marker     *marker     // nil: its user has set none
}

// marker is what a user has set in their own session so that it be kept.
type marker struct {
	text string
	at   time.Time // in the host's own clock
}

// departure is a session on its way out.
type departure struct {
	until time.Time // in the model's clock
	stuck bool
	cause Cause
	held  bool // it held a slot when it was told to go, and does until it is gone
	room  Room // what to remember if it goes through management
}

// Model is the sessions of one host: state and rules, no network. All methods
// may be called from any goroutine. Whatever happens by the passing of time (a
// slow logoff ends, the host logs an old session off) happens inside the next
// call of any method; Tick does nothing else.
type Model struct {
	clock   func() time.Time
	onEvent func(Event)

	mu       sync.Mutex
	version  uint64 // counts changes, the first is 1
	opt      Options
	byID     map[int]*session // without services and the listener
	stations int              // the N of the next rdp-tcp#N
	console  int              // ID of the console session
	rooms    []Room           // slots freed by management and not taken yet, oldest first
	watchers map[chan struct{}]struct{}
}

// NewModel makes a host that nobody is logged on to. clock is the model's time.
// onEvent, if not nil, is told of everything that happens, in order; it runs
// with the model locked, so it must not block and must not call the model.
func NewModel(opt Options, clock func() time.Time, onEvent func(Event)) *Model {
	if onEvent == nil {
		onEvent = func(Event) {}
	}
	m := &Model{
		clock:    clock,
		version:  1,
		onEvent:  onEvent,
		opt:      opt,
		byID:     make(map[int]*session),
		watchers: make(map[chan struct{}]struct{}),
	}
	m.opt.Faults = slices.Clone(opt.Faults)
	m.newConsole()
	return m
}

// Options are the switches as they stand.
func (m *Model) Options() Options { return m.Overview().Options }

// Configure changes the switches under the model's lock.
func (m *Model) Configure(change func(*Options)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	change(&m.opt)
	m.opt.Faults = slices.Clone(m.opt.Faults) // they count down in place
	m.changed()
}

// Overview is a host at one moment.
type Overview struct {
	// HostTime is the host's own clock.
	HostTime time.Time
	// Sessions is what Model.Sessions returns.
	Sessions []sessions.Session
	// Used is the number of slots that are held.
	Used    int
	Options Options
}

// Overview is everything on the host, read in one step.
func (m *Model) Overview() Overview {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	opt := m.opt
	opt.Faults = slices.Clone(opt.Faults)
	return Overview{HostTime: m.hostNow(), Sessions: m.list(func(*session) bool { return true }), Used: m.used(), Options: opt}
}

// Sessions is everything on the host, ordered by ID, the services session and
// the listener included, with times in the host's own clock.
func (m *Model) Sessions() []sessions.Session { return m.Overview().Sessions }

// VisibleSessions is what a caller without administrative rights sees: hidden
// sessions are left out, silently ([MS-TSTS] RpcGetEnumResultEx).
func (m *Model) VisibleSessions() []sessions.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	return m.list(func(s *session) bool { return !s.hidden })
}

// HostTime is the host's own clock: the model's clock plus Options.ClockSkew.
func (m *Model) HostTime() time.Time { return m.Overview().HostTime }

// Used is the number of slots that are held now.
func (m *Model) Used() int { return m.Overview().Used }

// Tick lets due things happen. Without it they happen at the next call of any
// other method.
func (m *Model) Tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
}

// Watch returns a channel that has a value waiting whenever something may have
// changed since it was last read. stop ends the watch; it may be called twice.
func (m *Model) Watch() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[c] = struct{}{}
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, c)
	}
}

// reading is what an agent reads of a host in one step.
type reading struct {
	version  uint64
	options  Options
	sessions []sessions.Session // of these, processor time and I/O go on without a change
	markers  map[int]marker     // that users have set, by session
}

// readSince reads what there is to see, with or without rights; nil if it has not
// changed since version. hostTime is the host's own clock.
func (m *Model) readSince(version uint64, lowRights bool) (r *reading, hostTime time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	if m.version == version {
		return nil, m.hostNow()
	}
	r = &reading{version: m.version, options: m.opt, markers: map[int]marker{}}
	r.options.Faults = slices.Clone(m.opt.Faults)
	r.sessions = m.list(func(s *session) bool { return !lowRights || !s.hidden })
	for id, s := range m.byID {
		if s.marker != nil && !lowRights { // the registry of others is not theirs to read
			r.markers[id] = *s.marker
		}
	}
	return r, m.hostNow()
}

// The rest of this file needs m.mu held.

func (m *Model) list(show func(*session) bool) []sessions.Session {
	list := []sessions.Session{{ID: 0, Name: "services", State: sessions.StateDisconnected}}
	now := m.hostNow()
	for _, s := range m.ordered() {
		if show(s) {
			list = append(list, s.told(now))
		}
	}
	return append(list, sessions.Session{ID: ListenerID, Name: "rdp-tcp", State: sessions.StateListen})
}

func (m *Model) hostNow() time.Time { return m.clock().Add(m.opt.ClockSkew) }

func (m *Model) ordered() []*session {
	list := make([]*session, 0, len(m.byID))
	for _, s := range m.byID {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *session) int { return a.ID - b.ID })
	return list
}

// advance does what has become due.
func (m *Model) advance() {
	now, hostNow := m.clock(), m.hostNow()
	for _, s := range m.ordered() {
		switch {
		case s.going != nil:
			if !s.going.stuck && !now.Before(s.going.until) {
				m.remove(s)
			}
		case m.opt.MaxDisconnection > 0 && s.State == sessions.StateDisconnected && !s.DisconnectedAt.IsZero() &&
			hostNow.Sub(s.DisconnectedAt) >= m.opt.MaxDisconnection:
			m.beginLogoff(s, CausePolicy)
		}
	}
}

func (m *Model) used() int {
	n := 0
	for _, s := range m.byID {
		if m.holdsSlot(s) {
			n++
		}
	}
	return n
}

// holdsSlot says whether s counts against Options.Slots. A console that nobody
// has logged on to does not; one with a user does.
func (m *Model) holdsSlot(s *session) bool {
	if s.going != nil {
		return s.going.held
	}
	switch s.State {
	case sessions.StateDisconnected:
		return m.opt.CountDisconnected && s.HasUser()
	case sessions.StateIdle, sessions.StateListen:
		return false
	case sessions.StateDown, sessions.StateReset, sessions.StateInit:
		return true
	}
	return s.HasUser() || s.Name != "console"
}

// freeID is the lowest ID in use by nobody: Windows gives the IDs of sessions
// that are gone to new ones.
func (m *Model) freeID() int {
	for id := 1; ; id++ {
		if _, used := m.byID[id]; !used {
			return id
		}
	}
}

// newConsole makes a console session that nobody has logged on to, under
// whatever ID is free. Windows does so whenever the last one is taken away.
func (m *Model) newConsole() {
	m.console = m.freeID()
	m.byID[m.console] = &session{Session: sessions.Session{ID: m.console, Name: "console", State: sessions.StateConnected}}
}

func (m *Model) changed() {
	m.version++
	for c := range m.watchers {
		select {
		case c <- struct{}{}:
		default: // a value is waiting already
		}
	}
}

func (m *Model) emit(kind EventKind, s *session, cause Cause, text string) {
	m.onEvent(Event{At: m.clock(), Kind: kind, Session: s.Session, Cause: cause, Text: text})
	m.changed()
}
