// Package relay moves bytes between two connections until both directions have
// ended. It never looks at them; a Watch of the caller's may, at the beginning.
//
// RDP keeps one connection for hours, mostly idle, with bursts of screen
// updates. So an idle relay must be cheap, a burst must go through the kernel
// where it can, the last bytes before an end must arrive (they tell the user why
// the session ended), and a peer that vanished must be noticed in seconds,
// because only then does the host call the session disconnected.
package relay

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Who ended a relay first, see Result.Closer.
const (
	CloserClient  = "client"
	CloserHost    = "host"
	CloserContext = "context"
	CloserWatch   = "watch"
)

// DefaultLinger is the Linger that is used if Options has none. In RDP a FIN is
// the end of the connection, not of one direction: the peer that sent it waits
// for nothing more. What is left are bytes under way on a slow line, and those
// move. Ten seconds without any movement outlast a few lost segments.
const DefaultLinger = 10 * time.Second

// MaxDrain is how many bytes are read and dropped of a side whose peer is gone, so that
// it can see the end in peace: more than is under way on any line. Whoever sends more
// does not listen, and is cut.
const MaxDrain = 8 << 20

// Options are the settings of one relay. The zero value is usable.
type Options struct {
	// Linger is how long the second direction may stay open after the first one
	// ended while no byte moves either way. 0: DefaultLinger. Negative: without end.
	Linger time.Duration
	// Watch, if set, sees what is relayed until it has seen enough.
	Watch *Watch
}

// Watch sees the bytes of both directions at the beginning of a relay, each
// piece before it is passed on. Each of its functions is called by one goroutine
// at a time, the two of them side by side. They must not keep or change b.
//
// A function may take its time: b, which has 4 KB at most, and all that comes behind
// it in that direction wait meanwhile, the other direction goes on. Its ctx ends
// when the relay is cut. With more false its direction needs it no longer and
// passes to the kernel. An error cuts the relay, and b is not passed on.
type Watch struct {
	FromClient, FromHost func(ctx context.Context, b []byte) (more bool, err error)
}

// Result is what a relay did.
type Result struct {
	// ToHost and ToClient are the bytes that were handed to the kernel for that
	// side. After an error the peer may not have received all of them.
	ToHost, ToClient int64
	// Err is nil if both sides ended with a FIN. Else it says what happened first
	// and to whom: a reset, a peer that does not answer any more, the end of the
	// context (its cause is wrapped), a side that would not end after the other.
	Err error
	// Closer is who ended first: CloserClient, CloserHost, CloserContext, or
	// CloserWatch if it was an error of the Watch.
	Closer string
}

// Run relays between client and host until both directions have ended or ctx
// ends, and then closes both connections; it does not close them before. The
// caller hands over both and must not use them meanwhile; deadlines that were
// set are removed. When Run returns, all its goroutines have ended.
//
// The end of one direction is passed on as a half-close once all bytes before
// it have been. If one side is reset, the other still gets every byte that
// arrived, and then a FIN. (A loop of package loop may pass a client's reset on as
// one.) ctx cuts both sides at once, whatever is under way.
//
// Between two *net.TCPConn on Linux the bytes stay in the kernel (splice).
// That holds a pipe, two descriptors and its buffer, per direction for as long as
// the direction waits for bytes: six descriptors per connection in all.
func Run(ctx context.Context, client, host net.Conn, o Options) Result {
	_ = client.SetDeadline(time.Time{}) // if these fail, so will the first read
	_ = host.SetDeadline(time.Time{})

	watching, end := context.WithCancel(ctx)
	defer end()
	p := &pair{client: client, host: host, linger: o.Linger, watching: watching, end: end}
	if p.linger == 0 {
		p.linger = DefaultLinger
	}
	toHost := newDirection(CloserClient, client, CloserHost, host)
	toClient := newDirection(CloserHost, host, CloserClient, client)
	if o.Watch != nil {
		toHost.watch, toClient.watch = o.Watch.FromClient, o.Watch.FromHost
	}

	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		p.cut(CloserContext, fmt.Errorf("relay: %w", context.Cause(ctx)))
	})

	var second sync.WaitGroup
	second.Go(func() { p.carry(toHost, toClient) })
	p.carry(toClient, toHost)
	second.Wait()

	if !stop() {
		<-cut
	}
	_ = client.Close()
	_ = host.Close()
	return Result{ToHost: toHost.copied, ToClient: toClient.copied, Err: p.err, Closer: p.closer}
}

// pair is the state that both directions share.
type pair struct {
	client, host net.Conn
	linger       time.Duration
	watching     context.Context    // ends when the relay is cut
	end          context.CancelFunc // ends watching

	mu     sync.Mutex
	closer string
	err    error
	over   bool // was cut, or both directions are done: what comes now is no news
	done   int  // directions
}

// ended notes that side ended, with a FIN if err is nil. Only the first of
// each counts: what follows mostly follows from it.
func (p *pair) ended(side string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	if p.closer == "" {
		p.closer = side
	}
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("relay: connection to the %s: %w", side, err)
	}
}

// finish notes that a direction has nothing left to do.
func (p *pair) finish(d *direction) {
	p.mu.Lock()
	if p.done++; p.done == 2 {
		p.over = true
	}
	p.mu.Unlock()
	close(d.done)
}

// cut closes both connections, so that whatever waits for them returns.
func (p *pair) cut(by string, why error) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over = true
	if p.closer == "" {
		p.closer = by
	}
	if p.err == nil {
		p.err = why
	}
	p.mu.Unlock()
	p.end()
	_ = p.client.Close()
	_ = p.host.Close()
}
