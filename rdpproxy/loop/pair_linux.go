package loop

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// Options are how a Pair is relayed. Pairs may share them; they must not change.
type Options struct {
	// Linger is relay.Options.Linger.
	Linger time.Duration
	// AnswerWait bounds how long Answered may take. 0: it is not called.
	AnswerWait time.Duration
	// Settle is how long after the answer, or the beginning if none is awaited, Settled is
	// called. 0: it is not called.
	Settle time.Duration
}

// together has pairs of a crowd settle at one time, so that the loop is woken once.
const together = 500 * time.Millisecond

// Owner is told what becomes of a Pair, on the loop's goroutine: it must not block.
type Owner interface {
	// Answered is called once, if Options have an AnswerWait: when the host has said
	// something or ended, or that time is over.
	Answered(l *Loop)
	// Settled is called at most once, after Options.Settle and half a second more at most,
	// unless an end has begun by then.
	Settled(l *Loop)
	// Ended is called once, when the relay is over and both sockets are closed.
	Ended(l *Loop, r relay.Result)
}

// Socket is one end of a Pair: a connected TCP socket that does not block. The Pair
// closes it.
type Socket struct {
	FD int32
	// For is what it is registered with the loop for, Arrivals or BothWays. 0: it is not
	// registered, and the Pair does that.
	For Events
	// Seen are the events that were reported of it and not dealt with.
	Seen Events
}

// Pair is a relay between a client and a host. The zero value is one that has not begun.
//
// Each direction passes through these states: it carries bytes; its sender has
// ended, and what is in hand is delivered before the receiver hears of the end; its
// receiver is gone, and what the sender still says is dropped until it has seen that
// (draining), since closing a socket with unread bytes would destroy the last words
// on the way to it; it is over. When one is over the other may go on as long as
// something moves (lingering). When both are, so is the pair.
type Pair struct {
	l            *Loop
	opts         *Options
	owner        Owner
	client, host leg
	toHost       direction
	toClient     direction
	timer        Timer // an answer awaited, the time to settle, or looks at what lingers or drains
	watch        *watching
	err          error
	seenMoved    uint64 // at the last look
	still        uint8  // looks without a change
	lingering    bool   // somebody looks
	closer       side
	queued       bool // in Loop.again
	answering    bool // Answered has not been called yet
	over         bool
}

// leg is one socket of a Pair.
type leg struct {
	p        *Pair
	fd       int32
	readable bool // as far as is known: until a read says no
	writable bool // until a write says no
	hears    bool // when it can be written again
	ended    bool // the peer has ended its half, or the connection is broken
	broken   bool // the connection is broken
	reset    bool // that is how it broke, as a read has told
}

// side is who did something.
type side uint8

const (
	nobody side = iota
	client
	host
	ourselves // the context
	watcher
)

func (s side) String() string {
	return [...]string{"", relay.CloserClient, relay.CloserHost, relay.CloserContext, relay.CloserWatch}[s]
}

// looks is how often what lingers is looked at in its time; counted, so that a
// starved process does not take its own pause for the peer's.
const looks = 8

// start begins the relay. For the loop's own goroutine.
func (p *Pair) start(l *Loop, c, h Socket, o *Options, owner Owner) error {
	p.l, p.opts, p.owner = l, o, owner
	p.client, p.host = leg{p: p, fd: c.FD}, leg{p: p, fd: h.FD}
	p.toHost.from, p.toClient.from = client, host
	l.load.Add(1)
	for _, s := range []struct {
		*leg
		Socket
	}{{&p.client, c}, {&p.host, h}} {
		s.writable = true
		if s.For != 0 {
			s.hears = s.For&unix.EPOLLOUT != 0
			s.readable, s.ended = s.Seen&canRead != 0, s.Seen.Ended()
			l.table.replace(s.fd, s.leg)
			continue
		}
		// What is there already is reported at once.
		if err := l.Register(s.fd, s.leg, Arrivals); err != nil {
			p.err = err
			return err
		}
	}
	if o.AnswerWait > 0 {
		p.answering = true
		l.Start(&p.timer, o.AnswerWait, p)
	} else {
		p.settle()
	}
	p.pump()
	return nil
}

// Ready implements Handler.
func (g *leg) Ready(_ *Loop, ev Events) {
	if ev&canRead != 0 {
		g.readable = true
	}
	if ev&canWrite != 0 {
		g.writable = true
	}
	if ev.Ended() {
		g.ended = true
	}
	g.p.pump()
}

// pump moves what can be moved both ways, a fair share of it.
func (p *Pair) pump() {
	if p.over {
		return
	}
	more := p.run(&p.toHost)
	if !p.over && p.run(&p.toClient) {
		more = true
	}
	if more && !p.over && !p.queued {
		p.queued = true
		p.l.again = append(p.l.again, p)
	}
}

// legs are where d reads and writes.
func (p *Pair) legs(d *direction) (src, dst *leg) {
	if d.from == client {
		return &p.client, &p.host
	}
	return &p.host, &p.client
}

func (p *Pair) other(d *direction) *direction {
	if d.from == client {
		return &p.toClient
	}
	return &p.toHost
}

// to is who receives what d carries.
func (d *direction) to() side { return client + host - d.from }

// failed notes that by ended, with a FIN if errno is 0. Only the first of each
// counts: what follows mostly follows from it.
func (p *Pair) failed(by side, errno syscall.Errno) {
	if p.closer == nobody {
		p.closer = by
	}
	if errno != 0 && p.err == nil {
		p.err = &brokenError{by, errno}
	}
}

// brokenError says which connection broke, and how. It has the words of package
// relay's, and is made of no strings: many connections end with a reset.
type brokenError struct {
	by    side
	errno syscall.Errno
}

func (e *brokenError) Error() string {
	return "relay: connection to the " + e.by.String() + ": " + e.errno.Error()
}

func (e *brokenError) Unwrap() error { return e.errno }

// finish notes that d has nothing left to do.
func (p *Pair) finish(d *direction) {
	d.state = finished
	d.drop(p.l)
	if d.from == host {
		p.answered()
	}
	if p.other(d).state == finished {
		p.end()
		return
	}
	p.linger()
}

// linger begins to look after what remains of a pair of which one direction is over
// or drains.
func (p *Pair) linger() {
	if p.lingering {
		return
	}
	p.lingering = true // the timer has another use now
	p.answered()
	p.l.Start(&p.timer, p.lookEvery(), p)
}

func (p *Pair) lookEvery() time.Duration {
	d := p.opts.Linger
	switch {
	case d == 0, d < 0: // without end, but draining has one
		d = relay.DefaultLinger
	}
	return max(d/looks, time.Millisecond)
}

// Expired implements Expirer.
func (p *Pair) Expired(*Loop, *Timer) {
	switch {
	case p.lingering:
	case p.answering:
		p.answered()
		return
	default:
		p.owner.Settled(p.l)
		return
	}
	for _, d := range []*direction{&p.toHost, &p.toClient} {
		if d.state != draining {
			continue
		}
		if d.patience--; d.patience == 0 {
			p.finish(d)
			if p.over {
				return
			}
		}
	}
	p.look()
	if !p.over {
		p.l.Start(&p.timer, p.lookEvery(), p)
	}
}

// look cuts the pair if one direction is over and nothing has moved in the other for
// the linger time.
func (p *Pair) look() {
	left := &p.toHost
	if left.state == finished {
		left = &p.toClient
	}
	if p.other(left).state != finished || p.opts.Linger < 0 {
		return
	}
	if moved := p.moved(); moved != p.seenMoved {
		p.seenMoved, p.still = moved, 0
		return
	}
	if p.still++; p.still >= looks {
		linger := p.opts.Linger
		if linger == 0 {
			linger = relay.DefaultLinger
		}
		p.cut(left.from, fmt.Errorf("relay: the %s did not end and nothing moved for %s", left.from, linger))
	}
}

// moved is a number that changes when bytes move: what was passed on, and what the
// kernel has received and delivered, which sees a slow reader at work.
func (p *Pair) moved() uint64 {
	return uint64(p.toHost.moved.Load()+p.toClient.moved.Load()) + kernelBytes(p.client.fd) + kernelBytes(p.host.fd)
}

// answered says that the host has said something, or will not.
func (p *Pair) answered() {
	if !p.answering {
		return
	}
	p.answering = false
	p.l.Stop(&p.timer)
	if !p.lingering && !p.over {
		p.settle()
	}
	p.owner.Answered(p.l)
}

// settle begins the time until the owner is told that p has settled.
func (p *Pair) settle() {
	if d := p.opts.Settle; d > 0 {
		p.l.Start(&p.timer, d+together-p.l.now%together, p)
	}
}

// cut ends the pair at once.
func (p *Pair) cut(by side, why error) {
	if p.over {
		return
	}
	if p.closer == nobody {
		p.closer = by
	}
	if p.err == nil {
		p.err = why
	}
	p.end()
}

// Cut ends the pair at once, whatever is under way; why is in the result, unless
// something has gone wrong before. For the loop's own goroutine. A pair that is over
// stays as it is.
func (p *Pair) Cut(why error) { p.cut(ourselves, fmt.Errorf("relay: %w", why)) }

// end closes both sockets. All that was to be sent has been given to the kernel, or
// is to be lost.
func (p *Pair) end() {
	p.over = true
	l := p.l
	p.answered()
	l.Stop(&p.timer)
	p.toHost.drop(l)
	p.toClient.drop(l)
	if p.watch != nil {
		p.watch.cancel(context.Canceled)
	}
	l.Close(p.client.fd)
	l.Close(p.host.fd)
	l.load.Add(-1)
	p.owner.Ended(l, relay.Result{
		ToHost: p.toHost.moved.Load(), ToClient: p.toClient.moved.Load(), Err: p.err, Closer: p.closer.String(),
	})
}

// Moved is how many bytes have been given to the kernel so far for each side. It may
// be called from anywhere.
func (p *Pair) Moved() (toHost, toClient int64) {
	return p.toHost.moved.Load(), p.toClient.moved.Load()
}

// Count adds bytes that were relayed before the pair began. It may be called from anywhere.
func (p *Pair) Count(toHost, toClient int64) {
	p.toHost.moved.Add(toHost)
	p.toClient.moved.Add(toClient)
}

// direction is one of the two ways through a Pair.
type direction struct {
	moved    atomic.Int64 // bytes given to the kernel for the receiver
	held     *block       // read and not written yet; nil mostly
	piped    *pipe        // the same, in the kernel
	dropped  int32        // while draining
	from     side         // client or host
	state    state
	patience uint8 // looks until draining ends
	full     uint8 // large reads in a row; at enoughForBulk it is spliced
	asking   bool  // somebody is looking at held; nothing is read or written meanwhile
}

type state uint8

const (
	carrying state = iota
	ending         // the sender has ended: deliver what is held, then pass the end on
	draining       // the receiver is gone
	finished
)
