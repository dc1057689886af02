package rdpproxy

import (
	"context"
	"sync"
	"time"
)

// endings is what is to be done for connections that are over: the Router hears of
// it, a line is logged. Either may wait for a lock or a disk, and a loop may not; so
// one goroutine does it for all loops. It lets a few of them come together: to wake it
// for each took a tenth of the time of a short connection.
type endings struct {
	mu   sync.Mutex
	todo []func()
	some chan struct{} // holds a value when todo was empty and is not any more
}

// together is how long the first of a batch waits for others.
const together = 2 * time.Millisecond

func newEndings() *endings { return &endings{some: make(chan struct{}, 1)} }

// add has f called soon, after everything that was added before. It does not block.
func (e *endings) add(f func()) {
	e.mu.Lock()
	e.todo = append(e.todo, f)
	first := len(e.todo) == 1
	e.mu.Unlock()
	if first {
		select {
		case e.some <- struct{}{}:
		default: // the goroutine has yet to look
		}
	}
}

// run does what is added until ctx ends.
func (e *endings) run(ctx context.Context) {
	var spare []func()
	for {
		select {
		case <-e.some:
		case <-ctx.Done():
			return
		}
		time.Sleep(together)
		e.mu.Lock()
		batch := e.todo
		e.todo = spare[:0]
		e.mu.Unlock()
		for i, f := range batch {
			f()
			batch[i] = nil
		}
		spare = batch
	}
}
