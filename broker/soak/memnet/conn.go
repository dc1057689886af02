package memnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is one end of a connection. Its methods may be called from any goroutine.
type Conn struct {
	local, remote netip.AddrPort
	in, out       *stream
	onClose       func() // may be nil
	once          sync.Once
}

// pipe is a connection: near is the end of client, far that of server.
func pipe(client, server netip.AddrPort) (near, far *Conn) {
	up, down := newStream(), newStream()
	return &Conn{local: client, remote: server, in: down, out: up}, &Conn{local: server, remote: client, in: up, out: down}
}

// Read takes what has arrived; it waits for the first byte.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.explain("read", err)
}

// Write waits while the other end's buffer is full.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.explain("write", err)
}

// CloseWrite sends the end of the stream; reading goes on.
func (c *Conn) CloseWrite() error {
	c.out.finish(io.EOF)
	return nil
}

// Close ends both directions. The other end reads what is under way, then EOF.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.out.finish(io.EOF)
		c.in.abandon(net.ErrClosed, syscall.EPIPE)
		c.out.forbid(net.ErrClosed)
		if c.onClose != nil {
			c.onClose()
		}
	})
	return nil
}

// Reset ends both directions at both ends, and drops what is under way.
func (c *Conn) Reset() {
	c.in.abandon(errReset, errReset)
	c.out.abandon(errReset, errReset)
}

// LocalAddr is a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr is a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.reading.set(t)
	c.out.writing.set(t)
	return nil
}

// SetReadDeadline bounds Read, the one under way included. Zero means no bound.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.reading.set(t)
	return nil
}

// SetWriteDeadline bounds Write, the one under way included. Zero means no bound.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.writing.set(t)
	return nil
}

func (c *Conn) explain(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "mem", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// most is how much one direction holds before writers wait.
const most = 256 << 10

// stream is one direction of a connection.
type stream struct {
	mu       sync.Mutex
	moved    *sync.Cond // bytes, an end or a deadline
	buf      []byte
	readErr  error // after buf
	writeErr error

	reading, writing deadline
}

func newStream() *stream {
	s := new(stream)
	s.moved = sync.NewCond(&s.mu)
	s.reading.s, s.writing.s = s, s
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.reading.over:
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > 0:
			n := copy(b, s.buf)
			s.buf = s.buf[n:]
			if len(s.buf) == 0 {
				s.buf = nil
			}
			s.moved.Broadcast()
			return n, nil
		case s.readErr != nil:
			return 0, s.readErr
		case len(b) == 0:
			return 0, nil
		}
		s.moved.Wait()
	}
}

func (s *stream) write(b []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writeErr != nil:
			return written, s.writeErr
		case s.writing.over:
			return written, os.ErrDeadlineExceeded
		case len(b) == 0:
			return written, nil
		}
		if n := min(len(b), most-len(s.buf)); n > 0 {
			s.buf = append(s.buf, b[:n]...)
			b, written = b[n:], written+n
			s.moved.Broadcast()
			continue
		}
		s.moved.Wait()
	}
}

// finish ends the stream behind what is in it.
func (s *stream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr == nil {
		s.readErr, s.writeErr = err, net.ErrClosed
	}
	s.moved.Broadcast()
}

// abandon ends the stream and drops what is in it.
func (s *stream) abandon(readErr, writeErr error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf, s.readErr = nil, readErr
	if s.writeErr == nil {
		s.writeErr = writeErr
	}
	s.stopTimers()
	s.moved.Broadcast()
}

// forbid makes writes fail with err.
func (s *stream) forbid(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeErr = err
	s.moved.Broadcast()
}

// stopTimers needs s.mu. Deadlines of a stream that is over do nothing any more,
// and their timers would keep it in memory.
func (s *stream) stopTimers() {
	for _, d := range []*deadline{&s.reading, &s.writing} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
}

// deadline is guarded by its stream's mutex.
type deadline struct {
	s     *stream
	over  bool
	timer *time.Timer
	seq   int // of the last set
}

func (d *deadline) set(t time.Time) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.seq++
	d.over = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.over = true
		d.s.moved.Broadcast()
		return
	}
	seq := d.seq
	d.timer = time.AfterFunc(wait, func() {
		d.s.mu.Lock()
		defer d.s.mu.Unlock()
		if d.seq == seq {
			d.over = true
			d.s.moved.Broadcast()
		}
	})
}
