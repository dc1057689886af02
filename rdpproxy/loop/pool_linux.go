package loop

import (
	"bytes"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a pipe is asked to hold: the most that any user may. The
	// larger the pieces, the fewer the calls for each gigabyte.
	pipeSize = 1 << 20
	// maxPipes bounds the pipes of one loop, two descriptors each: what is relayed in
	// bulk at one moment, or has stalled in the middle of it. Who gets none copies.
	maxPipes = 64
	// sparePipes are kept open while nobody needs them; each costs the kernel 10 KB.
	sparePipes = 4
	// spareBlocks of each size are kept.
	spareBlocks = 16
)

// sizes of blocks.
var sizes = [...]int{4 << 10, 16 << 10, bufferSize}

// pool is what the directions of one loop share while they have bytes in hand.
type pool struct {
	blocks [len(sizes)][]*block
	pipes  []*pipe // spare
	open   int     // pipes, in use or spare
}

// block are bytes in hand, of which those up to from have been dealt with.
type block struct {
	b    []byte
	from int
}

func (h *block) left() []byte { return h.b[h.from:] }

// pipe is a pair of descriptors with n bytes between them.
type pipe struct {
	r, w int32
	n    int
}

// hold copies b into a block that fits.
func (p *pool) hold(b []byte) *block {
	for i, size := range sizes {
		if len(b) > size {
			continue
		}
		spare := p.blocks[i]
		if len(spare) == 0 {
			return &block{b: append(make([]byte, 0, size), b...)}
		}
		h := spare[len(spare)-1]
		p.blocks[i] = spare[:len(spare)-1]
		h.b = append(h.b, b...)
		return h
	}
	return &block{b: bytes.Clone(b)}
}

// free takes back what hold gave; nobody may use it any more.
func (p *pool) free(h *block) {
	for i, size := range sizes {
		if cap(h.b) == size && len(p.blocks[i]) < spareBlocks {
			h.b, h.from = h.b[:0], 0
			p.blocks[i] = append(p.blocks[i], h)
		}
	}
}

// pipe returns an empty pipe; nil if there are too many or the system gives none.
func (p *pool) pipe() *pipe {
	if n := len(p.pipes); n > 0 {
		got := p.pipes[n-1]
		p.pipes = p.pipes[:n-1]
		return got
	}
	if p.open >= maxPipes {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	// Beyond a user's share (pipe-user-pages-soft) it stays smaller, which will do.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	p.open++
	return &pipe{r: int32(fds[0]), w: int32(fds[1])}
}

// giveBack takes a pipe back. One with bytes in it is of no use to anybody else.
func (p *pool) giveBack(got *pipe) {
	if got.n == 0 && len(p.pipes) < sparePipes {
		p.pipes = append(p.pipes, got)
		return
	}
	closeFD(got.r)
	closeFD(got.w)
	p.open--
}

func (p *pool) close() {
	for _, spare := range p.pipes {
		closeFD(spare.r)
		closeFD(spare.w)
	}
	p.open -= len(p.pipes)
	p.pipes = nil
}
