package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Messenger shows a text to the user of one session. The error is
// *sessions.RefusedError if nothing was shown; after any other that is not known.
type Messenger interface {
	Message(ctx context.Context, h sessions.Host, s sessions.Session, title, text string) error
}

// Disconnecter takes the client of one active session away by
// compare-and-disconnect: only if the session is still exactly the one described,
// Active, and its user has done nothing since s.LastInputAt. The session goes on.
// The error is *sessions.RefusedError if nothing was done; after any other the
// outcome is not known.
type Disconnecter interface {
	Disconnect(ctx context.Context, h sessions.Host, s sessions.Session) error
}

const (
	// idleTimeout bounds a message to a user, and a disconnect.
	idleTimeout = 20 * time.Second
	// idlePause is for how long a session that could not be warned or disconnected, or
	// whose user came back, is left alone.
	idlePause = 10 * time.Minute

	noWarning = "nothing on this host could warn its users and disconnect them"

	idleTitle = "This session is not in use"
	// DefaultIdleMessage is Farm.IdleMessage where that is empty.
	DefaultIdleMessage = "You have done nothing here for {idle}, and all places are taken. In {time} you will be disconnected. " +
		"Your programs go on running, and you find everything as it is when you connect again. To stay, press any key or move the mouse."
)

// idling is what a farm does to have idle users make room.
type idling struct {
	// since is when slots were first wanting; zero while they are not.
	since time.Time
	// on is the decision that is carried out, one at a time; Idle is nil if there is none.
	on placement.Decision
	// until is when the countdown ends; zero until the user has been warned.
	until time.Time
	// busy: a message or a disconnect is on its way to the host.
	busy bool
	// would is the session that shadow mode has last told of.
	would sessions.Ref
}

// watchIdle has the user who has done nothing for longest warned, and disconnected
// if they still do nothing. It is called at every new picture. The caller holds mu.
func (b *Broker) watchIdle(farmName string, now time.Time) {
	settings, f := b.settings(farmName), b.farm(farmName)
	e := &settings.Policy.Eviction
	switch {
	case f.idle.busy || b.closed:
		return
	case f.idle.on.Idle != nil:
		b.countDown(f, settings, now)
		return
	case e.IdleActive <= 0 || e.Mode == placement.Off:
		f.idle = idling{}
		return
	}
	d := b.decideIdle(f, settings, now, true)
	switch {
	case d.Class == placement.ClassEnough:
		f.idle.since, f.idle.would = time.Time{}, sessions.Ref{}
		return
	case f.idle.since.IsZero():
		f.idle.since = now
	}
	if d.Idle == nil || now.Sub(f.idle.since) < headroomPatience {
		return
	}
	d = b.decideIdle(f, settings, now, false) // whoever reads the audit wants to know why
	if ref := d.Idle.Ref(); e.Mode != placement.Evict {
		if f.idle.would != ref {
			f.idle.would = ref
			b.recordIdle(audit.Decided, f, d, now, nil)
		}
		return
	}
	b.recordIdle(audit.Decided, f, d, now, nil)
	d.Candidates = nil
	f.idle.on, f.idle.until = d, time.Time{}
	b.warn(f, settings)
}

// decideIdle is DisconnectIdle for f now.
func (b *Broker) decideIdle(f *farm, settings Farm, now time.Time, brief bool) placement.Decision {
	view, _, err := b.view(f, sessions.Identity{}, "", now)
	if err != nil {
		return placement.Decision{Kind: placement.Disconnect, Class: placement.ClassInternal, Reason: err.Error()}
	}
	b.addCannotDisconnect(&view)
	view.Brief = brief
	return placement.DisconnectIdle(view, settings.Policy)
}

func (b *Broker) addCannotDisconnect(v *placement.View) {
	v.CannotDisconnect = map[string]string{}
	for i := range b.snapshot.Hosts {
		name := b.snapshot.Hosts[i].Host.Name
		if b.deps.Messenger(name) == nil || b.deps.Disconnecter(name) == nil {
			v.CannotDisconnect[name] = noWarning
		}
	}
}

// warn tells the user of f.idle.on what is coming. The caller holds mu.
func (b *Broker) warn(f *farm, settings Farm) {
	idle, warning := *f.idle.on.Idle, settings.Policy.Eviction.IdleWarning
	text := settings.IdleMessage
	if text == "" {
		text = DefaultIdleMessage
	}
	text = strings.NewReplacer("{idle}", roundly(idle.For), "{time}", roundly(warning)).Replace(text)
	host, messenger := b.snapshot.Host(idle.Host).Host, b.deps.Messenger(idle.Host)
	b.atHost(f, func(ctx context.Context) error {
		if messenger == nil {
			return errors.New(noWarning)
		}
		return messenger.Message(ctx, host, idle.Session, idleTitle, text)
	}, func(err error, now time.Time) {
		if err != nil {
			b.endIdle(f, audit.IdleFailed, err, now)
			return
		}
		f.idle.until = now.Add(warning)
		b.recordIdle(audit.IdleWarned, f, f.idle.on, now, nil)
		time.AfterFunc(warning, func() { b.deps.Refresh(idle.Host) })
	})
}

// countDown waits for the end of the countdown, and ends it early if the user is
// back. The caller holds mu.
func (b *Broker) countDown(f *farm, settings Farm, now time.Time) {
	idle := *f.idle.on.Idle
	h := b.snapshot.Host(idle.Host)
	s, there := b.snapshot.Find(idle.Ref())
	switch {
	case h == nil || h.Report != nil && !there:
		b.endIdle(f, audit.IdleSpared, errors.New("the session has ended"), now)
		return
	case !there || !h.Report.ReadAt.After(f.idle.until) && now.Before(f.idle.until):
		if there && (s.State != sessions.StateActive || !s.LastInputAt.Equal(idle.Session.LastInputAt)) {
			b.endIdle(f, audit.IdleSpared, errors.New("its user has done something"), now)
		}
		return
	case !h.Report.ReadAt.After(f.idle.until):
		b.deps.Refresh(idle.Host) // not by a reading from before
		return
	}
	if d := b.decideIdle(f, settings, now, true); d.Idle == nil || d.Idle.Ref() != idle.Ref() || settings.Policy.Eviction.Mode != placement.Evict {
		b.endIdle(f, audit.IdleSpared, errors.New(d.Reason), now)
		return
	}
	disconnecter := b.deps.Disconnecter(idle.Host)
	host := h.Host
	b.atHost(f, func(ctx context.Context) error {
		if disconnecter == nil {
			return errors.New(noWarning)
		}
		return disconnecter.Disconnect(ctx, host, idle.Session)
	}, func(err error, now time.Time) {
		var refused *sessions.RefusedError
		switch {
		case err == nil:
			b.endIdle(f, audit.IdleDisconnected, nil, now)
		case errors.As(err, &refused):
			b.endIdle(f, audit.IdleSpared, err, now)
		default:
			b.endIdle(f, audit.IdleFailed, err, now)
		}
	})
}

// atHost does something at a host for f, and then takes the answer with mu held.
func (b *Broker) atHost(f *farm, do func(ctx context.Context) error, then func(err error, now time.Time)) {
	f.idle.busy = true
	b.work.Add(1)
	go func() {
		defer b.work.Done()
		ctx, cancel := context.WithTimeout(context.Background(), idleTimeout)
		defer cancel()
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-b.closing:
				cancel()
			case <-stop:
			}
		}()
		err := do(ctx)
		b.mu.Lock()
		defer b.mu.Unlock()
		f.idle.busy = false
		then(err, time.Now())
	}()
}

// endIdle ends what was going on with f.idle.on. The caller holds mu.
func (b *Broker) endIdle(f *farm, event audit.Event, err error, now time.Time) {
	ref := f.idle.on.Idle.Ref()
	b.recordIdle(event, f, f.idle.on, now, err)
	f.idle = idling{since: now}
	if event != audit.IdleDisconnected {
		b.untouchable[ref] = sessionMark{why: "it was to be disconnected, and stayed: " + err.Error(), until: now.Add(idlePause)}
	}
	b.deps.Refresh(ref.Host)
}

func (b *Broker) recordIdle(event audit.Event, f *farm, d placement.Decision, now time.Time, err error) {
	r := audit.Record{Time: now, Event: event, Farm: f.name, Decision: d, Account: d.Idle.Session.Account}
	if err != nil {
		r.Error = err.Error()
	}
	b.record(r)
}

// roundly is a duration in words for users: 2 hours, 5 minutes.
func roundly(d time.Duration) string {
	unit, n := "minute", max(1, int(d.Round(time.Minute)/time.Minute))
	if n >= 120 {
		unit, n = "hour", n/60
	}
	text := strconv.Itoa(n) + " " + unit
	if n != 1 {
		text += "s"
	}
	return text
}
