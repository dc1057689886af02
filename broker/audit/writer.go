package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// queueLength is how many records wait for a slow disk before others are
// dropped: a burst of logons in a large farm, some megabytes at most.
const queueLength = 4096

// Writer keeps records as JSON lines, one Record a line. Record never blocks:
// nobody waits for a desktop because a disk is slow. What could not be kept is
// counted in Stats. Make one with Open or NewWriter, let Run write, and Close it
// after the last record.
type Writer struct {
	path  string // "" where NewWriter was given something else than a file
	log   *zap.Logger
	queue chan Record

	written, dropped, failed atomic.Uint64
	ended                    atomic.Bool // Close has begun

	// mu keeps lines whole and in order, and guards everything below. It is held
	// while the disk is waited for, but never by Record.
	mu     sync.Mutex
	out    io.Writer
	closed bool
	torn   bool   // the last line may have been cut by an error
	losses uint64 // records lost since the last one that was written
}

// Stats counts what became of the records so far.
type Stats struct {
	// Written reached the file.
	Written uint64
	// Dropped came faster than the file takes them, or after Close.
	Dropped uint64
	// Failed met an error, such as a full disk.
	Failed uint64
}

// Open returns a Writer that appends to the file at path, which is made if it
// does not exist, for its owner and group to read: it tells who works when, and
// where. Its folder is made if only that is missing.
func Open(path string, log *zap.Logger) (*Writer, error) {
	f, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	w := NewWriter(f, log)
	w.path = path
	return w, nil
}

// NewWriter returns a Writer to out, which Close closes if it is an io.Closer.
// A nil log is silent.
func NewWriter(out io.Writer, log *zap.Logger) *Writer {
	if log == nil {
		log = zap.NewNop()
	}
	return &Writer{log: log, queue: make(chan Record, queueLength), out: out}
}

func openAppend(path string) (*os.File, error) {
	if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the folder of the audit file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("opening the audit file: %w", err)
	}
	return f, nil
}

// Record hands r over for writing. It returns at once; r must not change any more.
func (w *Writer) Record(r Record) {
	if w.ended.Load() {
		w.dropped.Add(1)
		return
	}
	select {
	case w.queue <- r:
	default:
		w.dropped.Add(1)
	}
}

// Run writes what is recorded until ctx ends, and returns nil.
func (w *Writer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-w.queue:
			w.mu.Lock()
			w.write(r)
			w.mu.Unlock()
		}
	}
}

// Reopen opens the file anew under its name, after something else has moved the
// old one away. If that fails, the old one stays in use.
func (w *Writer) Reopen() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.path == "" || w.closed {
		return nil
	}
	f, err := openAppend(w.path)
	if err != nil {
		return err
	}
	old := w.out
	w.out, w.torn = f, false
	return closeOutput(old)
}

// Close writes what is still waiting and closes the file. Records that come
// later are dropped. Closing twice is harmless.
func (w *Writer) Close() error {
	w.ended.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	for len(w.queue) > 0 {
		select {
		case r := <-w.queue:
			w.write(r)
		default: // Run was faster
		}
	}
	w.closed = true
	return closeOutput(w.out)
}

// Stats are the counts at this moment.
func (w *Writer) Stats() Stats {
	return Stats{Written: w.written.Load(), Dropped: w.dropped.Load(), Failed: w.failed.Load()}
}

// write writes one record. The caller holds mu.
func (w *Writer) write(r Record) {
	if w.closed {
		w.dropped.Add(1)
		return
	}
	if err := w.line(r); err != nil {
		w.failed.Add(1)
		if w.losses++; w.losses == 1 {
			w.log.Error("audit records are being lost", zap.Error(err))
		}
		return
	}
	w.written.Add(1)
	if w.losses > 0 {
		w.log.Warn("audit records are written again", zap.Uint64("lost", w.losses))
		w.losses = 0
	}
}

// line writes r with one call, so that lines of an appended file never mix.
func (w *Writer) line(r Record) error {
	var b bytes.Buffer
	if w.torn {
		b.WriteByte('\n')
	}
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("encoding an audit record: %w", err)
	}
	n, err := w.out.Write(b.Bytes())
	if err == nil && n < b.Len() {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.torn = w.torn || n > 0
		return fmt.Errorf("writing an audit record: %w", err)
	}
	w.torn = false
	return nil
}

// closeOutput flushes out to the disk, where it can be, and closes it.
func closeOutput(out io.Writer) error {
	var errs []error
	if f, ok := out.(*os.File); ok {
		// Devices and pipes cannot be flushed, and need not be.
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			errs = append(errs, f.Sync())
		}
	}
	if c, ok := out.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the audit file: %w", err)
	}
	return nil
}
