package simhost

import (
	"bytes"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// shell is one WS-Management shell. Its fields are guarded by winrmServer.mu,
// those of its commands by the commands' own mutexes.
type shell struct {
	id, name, clientIP string
	owner              *Manager
	idleTimeout        time.Duration
	codePage           int
	variables          map[string]string
	created, lastUsed  time.Time // in the model's clock
	waiting            int       // Receives that are being served: such a shell is not idle
	operations         int       // commands ever started in it, see Quotas.OperationsPerUser
	commands           map[string]*command
}

func (sh *shell) idle(now time.Time) bool {
	return sh.waiting == 0 && now.Sub(sh.lastUsed) >= sh.idleTimeout
}

// command is one command line in a shell and its output so far.
type command struct {
	id   string
	stop chan struct{} // closed when the command is to end

	mu       sync.Mutex
	stopOnce sync.Once
	output   []chunk
	done     bool
	exitCode uint32
	stdin    []byte
	stdinEnd bool
	changed  chan struct{} // a value waits here after every change
	typed    chan struct{} // a value waits here after every input
}

// chunk is output of one stream.
type chunk struct {
	stream string // "stdout" or "stderr"
	data   []byte
}

func newCommand() *command {
	return &command{id: newUUID(), stop: make(chan struct{}), changed: make(chan struct{}, 1), typed: make(chan struct{}, 1)}
}

// end asks the command to stop. It may be called more than once.
func (c *command) end() { c.stopOnce.Do(func() { close(c.stop) }) }

func (c *command) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// write appends output of stream.
func (c *command) write(stream string, data []byte) {
	if len(data) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.output = append(c.output, chunk{stream, bytes.Clone(data)})
	c.notify()
}

// input appends to the command's stdin.
func (c *command) input(data []byte, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stdin = append(c.stdin, data...)
	c.stdinEnd = c.stdinEnd || end
	select {
	case c.typed <- struct{}{}:
	default:
	}
}

func (c *command) finish(exitCode uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done, c.exitCode = true, exitCode
	c.notify()
}

// take is what the next Receive answers with: output, cut by rng into several
// pieces of which some may stay behind (nil: everything, uncut). ok is false if
// there is nothing to say yet.
func (c *command) take(rng *rand.Rand) (out []chunk, done bool, exitCode uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, c.output = cut(c.output, rng)
	done = c.done && len(c.output) == 0
	if done || len(c.output) > 0 {
		c.notify() // for the next Receive, or another one that waits
	}
	return out, done, c.exitCode, len(out) > 0 || done
}

// cut splits output at random bytes, and takes a random number of the pieces.
func cut(output []chunk, rng *rand.Rand) (taken, left []chunk) {
	if rng == nil {
		return output, nil
	}
	var pieces []chunk
	for _, c := range output {
		for len(c.data) > 0 {
			n := 1 + rng.IntN(min(len(c.data), 1+rng.IntN(200)))
			pieces = append(pieces, chunk{c.stream, c.data[:n]})
			c.data = c.data[n:]
		}
	}
	if len(pieces) == 0 {
		return nil, nil
	}
	n := 1 + rng.IntN(len(pieces))
	return pieces[:n], pieces[n:]
}

// newUUID is a random UUID in the upper case that Windows uses.
func newUUID() string {
	var b [16]byte
	crand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
