package rdpproxy

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	// watchDelay: most routes are found and dialled at once, and a client that
	// leaves within this time is noticed by the relay. No need to look.
	watchDelay = 20 * time.Millisecond

	// maxEarly is how much a client may send before it has a host. It has to
	// wait for the host's answer, so anything here is unusual; what is beyond this
	// stays in the system's buffers.
	maxEarly = 16 << 10
)

// errClientLeft is the cause of the end of a routing context.
var errClientLeft = errors.New("the client left")

// watcher reads from a client that waits for a host, to notice when it leaves,
// and keeps what it reads.
type watcher struct {
	client net.Conn
	leave  context.CancelCauseFunc
	timer  *time.Timer
	early  []byte
	done   chan struct{}

	stopped bool
}

// watch begins to watch the client shortly; leave is called when it is gone.
// stop must be called before anybody else reads from the client.
func watch(client net.Conn, leave context.CancelCauseFunc) *watcher {
	w := &watcher{client: client, leave: leave, done: make(chan struct{})}
	w.timer = time.AfterFunc(watchDelay, w.run)
	return w
}

func (w *watcher) run() {
	defer close(w.done)
	var buf [512]byte
	for len(w.early) < maxEarly {
		n, err := w.client.Read(buf[:])
		w.early = append(w.early, buf[:n]...)
		if isTimeout(err) { // stop
			return
		}
		if err != nil {
			w.leave(errClientLeft)
			return
		}
	}
}

// stop ends the watch and returns what the client sent. It may be called again.
func (w *watcher) stop() (early []byte) {
	if w.stopped {
		return w.early
	}
	w.stopped = true
	if !w.timer.Stop() {
		_ = w.client.SetReadDeadline(past())
		<-w.done
		_ = w.client.SetReadDeadline(time.Time{})
	}
	return w.early
}
