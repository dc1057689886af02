package loop

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

const (
	canRead  = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	canWrite = unix.EPOLLOUT | unix.EPOLLHUP | unix.EPOLLERR

	// share is how much one direction moves before all others get their turn.
	share = 1 << 20
	// largeRead in a row, enoughForBulk times, make a direction bulk; a piece smaller
	// than smallPiece makes it what it was.
	largeRead     = 32 << 10
	smallPiece    = 8 << 10
	enoughForBulk = 4
	// watchedRead is what a watcher sees at once, see relay.Watch.
	watchedRead = 4 << 10
)

// run moves what can be moved in d. It reports whether there is more than its share.
func (p *Pair) run(d *direction) (more bool) {
	src, dst := p.legs(d)
	for moved := 0; moved < share; {
		switch {
		case d.state == finished || d.asking:
			return false
		case d.state == draining:
			if !src.readable {
				return false
			}
			moved += p.drain(d, src)
		case d.held != nil:
			if !dst.writable {
				return false
			}
			p.flush(d, dst)
		case d.piped != nil:
			if !dst.writable {
				return false
			}
			p.empty(d, dst)
		case d.state == ending && d.from == client && src.reset && unsent(dst.fd) == 0:
			p.reset()
		case d.state == ending:
			if !dst.broken {
				shut(dst.fd)
			}
			p.finish(d)
		case !src.readable || !dst.writable: // nothing is read that could not be passed on
			return false
		case d.full >= enoughForBulk && p.watch.of(d) == nil:
			moved += p.splice(d, src, dst)
		default:
			moved += p.copy(d, src, dst)
		}
		if p.over {
			return false
		}
	}
	return true
}

// copy reads once and writes it.
func (p *Pair) copy(d *direction, src, dst *leg) (n int) {
	buf := p.l.buf
	look := p.watch.of(d)
	if look != nil {
		buf = buf[:watchedRead]
	}
	n, errno := recv(src.fd, buf)
	if n == 0 {
		p.unread(d, src, errno)
		return 0
	}
	if d.from == host {
		p.answered()
	}
	// Less than there was room for is all that there was. Only an end that was there
	// already would be behind it without another event.
	if n < len(buf) && !src.ended {
		src.readable = false
	}
	if look != nil {
		p.ask(d, buf[:n], look)
		return n
	}
	switch {
	case n >= largeRead:
		d.full++
	case n < smallPiece:
		d.full = 0
	}
	if rest := p.write(d, dst, buf[:n]); len(rest) > 0 && d.state == carrying {
		d.held = p.l.pool.hold(rest)
	}
	return n
}

// write gives b to the kernel and returns what it did not take.
func (p *Pair) write(d *direction, dst *leg, b []byte) (rest []byte) {
	n, errno := send(dst.fd, b)
	d.moved.Add(int64(n))
	if n < len(b) {
		p.unwritten(d, dst, errno)
	}
	return b[n:]
}

// unread notes why nothing was read.
func (p *Pair) unread(d *direction, src *leg, errno syscall.Errno) {
	if errno == unix.EAGAIN {
		src.readable = false
		return
	}
	p.failed(d.from, errno)
	d.state, src.broken, src.reset = ending, errno != 0, errno == unix.ECONNRESET
}

// unwritten notes why not all was written: the receiver is slow (errno 0 or EAGAIN:
// there will be an event when it has taken some), or gone.
func (p *Pair) unwritten(d *direction, dst *leg, errno syscall.Errno) {
	if errno == 0 || errno == unix.EAGAIN {
		dst.writable = false
		if !dst.hears { // most connections are never so slow
			dst.hears = true
			if err := p.l.change(dst.fd, BothWays); err != nil {
				p.cut(ourselves, fmt.Errorf("relay: %w", err))
			}
		}
		return
	}
	p.failed(d.to(), errno)
	dst.broken = true
	d.drop(p.l)
	if d.state == ending { // there is nothing more to come either
		p.finish(d)
		return
	}
	d.state, d.patience = draining, looks
	p.linger()
}

// flush writes what is held.
func (p *Pair) flush(d *direction, dst *leg) {
	rest := p.write(d, dst, d.held.left())
	if d.held == nil { // the receiver is gone
		return
	}
	if d.held.from = len(d.held.b) - len(rest); len(rest) == 0 {
		d.drop(p.l)
	}
}

// splice moves bytes through a pipe, in the kernel.
func (p *Pair) splice(d *direction, src, dst *leg) (n int) {
	got := p.l.pool.pipe()
	if got == nil {
		return p.copy(d, src, dst)
	}
	n, errno := splice(src.fd, got.w, pipeSize)
	if n == 0 {
		p.l.pool.giveBack(got)
		p.unread(d, src, errno)
		return 0
	}
	if d.from == host {
		p.answered()
	}
	if n < smallPiece {
		d.full = 0
	}
	// What comes meanwhile goes with it: the larger the piece, the less each byte costs
	// the receiver. That no more is taken says nothing of the sender: the pipe may be full.
	for more := n; more > 0 && n < pipeSize; n += more {
		more, _ = splice(src.fd, got.w, pipeSize-n)
	}
	got.n = n
	d.piped = got
	p.empty(d, dst)
	return n
}

// empty writes what is in d's pipe.
func (p *Pair) empty(d *direction, dst *leg) {
	for d.piped.n > 0 {
		n, errno := splice(d.piped.r, dst.fd, d.piped.n)
		if n == 0 {
			p.unwritten(d, dst, errno)
			return
		}
		d.piped.n -= n
		d.moved.Add(int64(n))
	}
	d.drop(p.l)
}

// reset passes a client's reset on to the host, as it would have come without us, once
// the host's system has all that the client had said. It saves the host and us the
// exchange of two ends that nobody is there for. (A host's reset becomes a FIN: its last
// words tell the user why the session ended, and Windows drops what is unread when a
// reset comes.)
func (p *Pair) reset() {
	resetOnClose(p.host.fd)
	p.end()
}

// drain reads and drops.
func (p *Pair) drain(d *direction, src *leg) (n int) {
	n, errno := discard(src.fd)
	switch {
	case n > 0:
		if d.dropped += int32(n); d.dropped > relay.MaxDrain { // it does not listen
			p.finish(d)
		}
	case errno == unix.EAGAIN:
		src.readable = false
	default:
		p.finish(d)
	}
	return n
}

// drop gives back whatever d has in hand.
func (d *direction) drop(l *Loop) {
	if d.held != nil {
		if !d.asking { // else somebody still looks at it
			l.pool.free(d.held)
		}
		d.held = nil
	}
	if d.piped != nil {
		l.pool.giveBack(d.piped)
		d.piped = nil
	}
}

// kernelBytes is how many bytes the kernel has received from and delivered to the
// peer of a socket.
func kernelBytes(fd int32) uint64 {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.Bytes_received + info.Bytes_acked
}
