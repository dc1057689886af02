package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// direction is one of the two ways through a relay.
type direction struct {
	from, to string // CloserClient or CloserHost, for words
	src, dst net.Conn
	watch    func(ctx context.Context, b []byte) (more bool, err error) // nil: none

	progress atomic.Int64  // bytes copied so far, where copying passes through here
	copied   int64         // bytes copied in all; valid after done
	done     chan struct{} // closed when no more bytes will be copied
}

func newDirection(from string, src net.Conn, to string, dst net.Conn) *direction {
	return &direction{from: from, to: to, src: src, dst: dst, done: make(chan struct{})}
}

// carry copies one direction to its end, passes the end on, and then waits for
// the other direction. Both directions run it; it is a method and not a
// literal so that stack dumps name it.
func (p *pair) carry(d, other *direction) {
	culprit, err := d.copy(p)
	p.ended(culprit, err)
	if culprit == d.from {
		closeWrite(d.dst)
	} else {
		// The receiver is gone. The sender does not know yet, and closing its
		// connection while bytes from it lie unread would reset it: it could lose
		// the receiver's last words. So they are read until it has seen the end.
		drain(d.src, p.linger)
	}
	p.finish(d)
	p.await(other)
}

// copy copies until src ends or one of the connections fails. culprit is the
// side that ended: d.from with a nil error for a FIN, d.from or d.to with one.
func (d *direction) copy(p *pair) (culprit string, err error) {
	n, culprit, err, over := d.watched(p)
	d.copied = n
	if !over {
		var ok bool
		if n, culprit, err, ok = d.splice(); !ok {
			n, culprit, err = d.copyThrough(make([]byte, 32<<10), nil)
		}
		d.copied += n
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		// Closed from our side: by cut, which has noted why, or in place of a
		// half-close that the connection cannot do.
		return culprit, nil
	}
	return culprit, bare(err)
}

// watched copies as long as somebody watches. over is false if the direction goes
// on after that.
func (d *direction) watched(p *pair) (n int64, culprit string, err error, over bool) {
	if d.watch == nil {
		return 0, "", nil, false
	}
	more := true
	n, culprit, err = d.copyThrough(make([]byte, 4<<10), func(b []byte) (_ bool, err error) {
		if more, err = d.watch(p.watching, b); err != nil {
			by := CloserWatch
			if p.watching.Err() != nil {
				by = CloserContext
			}
			p.cut(by, fmt.Errorf("relay: %w", err))
			return false, net.ErrClosed
		}
		return more, nil
	})
	return n, culprit, err, more || err != nil
}

// copyThrough copies through a buffer of this process. 32 KB hold the largest
// PDU that clients and hosts send, twice. look, if not nil, sees each piece before
// it is written; with more false that is the last one, and with an error it is
// not written any more.
func (d *direction) copyThrough(buf []byte, look func(b []byte) (more bool, err error)) (n int64, culprit string, err error) {
	for {
		got, readErr := d.src.Read(buf)
		if got > 0 {
			more := true
			if look != nil {
				if more, err = look(buf[:got]); err != nil {
					return n, d.from, err
				}
			}
			put, err := d.dst.Write(buf[:got])
			n += int64(put)
			d.progress.Add(int64(put))
			if err != nil {
				return n, d.to, err
			}
			if !more {
				return n, d.from, nil
			}
		}
		if errors.Is(readErr, io.EOF) {
			return n, d.from, nil
		}
		if readErr != nil {
			return n, d.from, readErr
		}
	}
}

// await waits until other has ended, and cuts the relay if nothing moves for
// the linger time.
func (p *pair) await(other *direction) {
	if p.linger < 0 {
		<-other.done
		return
	}
	const looks = 8 // per linger time; counted, so that a starved process does not take its own pause for the peer's
	ticker := time.NewTicker(max(p.linger/looks, time.Millisecond))
	defer ticker.Stop()
	last, still := p.moved(other), 0
	for {
		select {
		case <-other.done:
			return
		case <-ticker.C:
		}
		moved := p.moved(other)
		if moved != last {
			last, still = moved, 0
			continue
		}
		if still++; still == looks {
			p.cut(other.from, fmt.Errorf("relay: the %s did not end and nothing moved for %s", other.from, p.linger))
		}
	}
}

// moved is a number that changes when bytes move in the direction that is left:
// what was copied here, or what the kernel has received and sent for us, which
// sees a splice that is in the middle of a slow reader's pipe.
func (p *pair) moved(d *direction) uint64 {
	return uint64(d.progress.Load()) + kernelBytes(d.src) + kernelBytes(d.dst)
}

// drain reads and drops what c sends until it ends, at most MaxDrain and for the linger
// time.
func drain(c net.Conn, linger time.Duration) {
	if linger < 0 {
		linger = DefaultLinger
	}
	if c.SetReadDeadline(time.Now().Add(linger)) == nil {
		_, _ = io.CopyN(io.Discard, c, MaxDrain)
	}
}

// closeWrite passes a FIN on. A connection that cannot be closed by halves is
// closed whole: its peer would wait for ever otherwise.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails only if the peer is gone already
		return
	}
	_ = c.Close()
}

// bare reduces an error of the net package to the system's error, which is
// what says something; the addresses are the caller's to log.
func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
