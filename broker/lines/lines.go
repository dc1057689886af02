// Package lines writes a log to a file that may be slow, without ever keeping
// anybody waiting who logs: lines are gathered and written together.
package lines

import (
	"io"
	"sync"
	"time"
)

const (
	// together is how long the first line waits for others. Nobody who follows a log
	// sees it, and a busy broker writes ten times a second instead of thousands.
	together = 100 * time.Millisecond
	// most is how many bytes may wait. Who reads the log has stopped then.
	most = 4 << 20
)

// Writer is a zapcore.WriteSyncer. Its methods may be called from anywhere. It wakes
// nobody while nothing is logged.
type Writer struct {
	to   io.Writer
	lost func(n int) []byte

	mu      sync.Mutex
	gone    sync.Cond // waiting has been written
	waiting []byte
	spare   []byte
	left    int // lines that found no room
	writing bool
}

// New returns a Writer to w. lost makes the line that says that n lines are missing;
// nil: nothing says so.
func New(w io.Writer, lost func(n int) []byte) *Writer {
	if lost == nil {
		lost = func(int) []byte { return nil }
	}
	l := &Writer{to: w, lost: lost}
	l.gone.L = &l.mu
	return l
}

// Write takes one line, and never fails: a line for which there is no room is counted
// as lost. It does not keep line.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting)+len(line) > most {
		w.left++
		return len(line), nil
	}
	w.waiting = append(w.waiting, line...)
	if !w.writing {
		w.writing = true
		time.AfterFunc(together, w.write)
	}
	return len(line), nil
}

// write writes what waits, until nothing does.
func (w *Writer) write() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) > 0 {
		batch := w.waiting
		if w.left > 0 {
			batch = append(batch, w.lost(w.left)...)
			w.left = 0
		}
		w.waiting, w.spare = w.spare[:0], nil
		w.mu.Unlock()
		_, _ = w.to.Write(batch) // there is nowhere to say that the log cannot be written
		w.mu.Lock()
		w.spare = batch[:0]
		if cap(batch) > most/4 { // of a bad moment
			w.spare = nil
		}
	}
	w.writing = false
	w.gone.Broadcast()
}

// Sync returns when every line taken before has been written.
func (w *Writer) Sync() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing {
		w.gone.Wait()
	}
	return nil
}
