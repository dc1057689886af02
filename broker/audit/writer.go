package audit

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// queueLength is how many records wait for a slow disk before others are
	// dropped: a burst of logons in a large farm, some megabytes at most.
	queueLength = 4096
	// flushAfter is how long lines may stay in the system's memory, where a loss of
	// power takes them.
	flushAfter = time.Second
	// reopenWait bounds how long Reopen waits for what was recorded before it.
	reopenWait = 500 * time.Millisecond
)

// Writer keeps records as JSON lines, one Record a line, in a chain: see Link.
// Record never blocks: nobody waits for a desktop because a disk is slow. What
// could not be kept is counted in Stats, and noted in the chain. Make one with
// Open or NewWriter, let Run write, and Close it after the last record.
type Writer struct {
	path   string // "" where NewWriter was given something else than a file
	log    *zap.Logger
	queue  chan Record
	untidy chan struct{} // holds one value when there may be something to pack or delete

	written, dropped, failed atomic.Uint64
	underway                 atomic.Int64 // recorded, and not written yet
	ended                    atomic.Bool  // Close has begun

	// mu keeps lines whole and in order, and guards everything below. It is held
	// while the disk is waited for, but never by Record.
	mu       sync.Mutex
	rotation Rotation
	file     *file // nil after it could not be opened again
	closed   bool
	head     Head       // of what is written
	kept     Head       // of what is on the disk, and in the head file
	torn     *tornBytes // what was cut off at the end of file; nil if nothing was
	gap      *Span      // to be noted
	told     uint64     // losses that were noted
	losses   uint64     // records lost since the last one that was written
	headOK   bool       // the head file could be written
	retry    time.Time  // no rotation before
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

// Open returns a Writer that appends to the file at path, and goes on with the
// chain that the file and the head beside it tell of. The file is made if it does
// not exist, and its folder if only that is missing. A nil log is silent.
func Open(path string, rotation Rotation, log *zap.Logger) (*Writer, error) {
	kept, err := readHead(path)
	if err != nil {
		return nil, err
	}
	f, end, err := openFile(path)
	if err != nil {
		return nil, err
	}
	w := newWriter(f, log)
	w.path, w.rotation = path, rotation
	w.head, w.kept, w.torn = end.head, kept, end.torn
	if kept.Seq > end.head.Seq {
		// The chain goes on where it was: the lines between may be in a file that
		// something else has moved away, or somebody has cut them off.
		w.head = kept
		if end.head.Seq > 0 {
			w.gap = &Span{From: end.head.Seq + 1, To: kept.Seq}
		}
	}
	return w, nil
}

// NewWriter returns a Writer to out, which Close closes if it is an io.Closer.
// The chain begins with its first line. A nil log is silent.
func NewWriter(out io.Writer, log *zap.Logger) *Writer { return newWriter(&file{out: out}, log) }

func newWriter(f *file, log *zap.Logger) *Writer {
	if log == nil {
		log = zap.NewNop()
	}
	return &Writer{
		log: log, file: f, headOK: true,
		queue: make(chan Record, queueLength), untidy: make(chan struct{}, 1),
	}
}

// SetRotation puts other rules in force.
func (w *Writer) SetRotation(r Rotation) {
	w.mu.Lock()
	w.rotation = r
	w.mu.Unlock()
	w.lookAround()
}

// lookAround has Run look for files to pack or to delete.
func (w *Writer) lookAround() {
	select {
	case w.untidy <- struct{}{}:
	default: // it will
	}
}

// Record hands r over for writing. It returns at once; r must not change any more.
func (w *Writer) Record(r Record) {
	if w.ended.Load() {
		w.dropped.Add(1)
		return
	}
	w.underway.Add(1)
	select {
	case w.queue <- r:
	default:
		w.underway.Add(-1)
		w.dropped.Add(1)
	}
}

// Run writes what is recorded, and looks after the files that were moved away,
// until ctx ends. It returns nil.
func (w *Writer) Run(ctx context.Context) error {
	var tidying sync.WaitGroup
	defer tidying.Wait()
	if w.path != "" {
		tidying.Go(func() { w.tidy(ctx) })
	}
	w.repair()
	flush := time.NewTimer(flushAfter)
	defer flush.Stop()
	armed := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-w.queue:
			w.mu.Lock()
			w.write(r)
			w.mu.Unlock()
			w.underway.Add(-1)
			if !armed {
				flush.Reset(flushAfter)
				armed = true
			}
		case <-flush.C:
			armed = false
			w.mu.Lock()
			w.keep()
			w.mu.Unlock()
		}
	}
}

// Reopen opens the file anew under its name, after something else has moved the
// old one away. The chain goes on. If that fails, the old one stays in use. What was
// recorded before goes into the old one, unless writing it takes too long.
func (w *Writer) Reopen() error {
	for late := time.Now().Add(reopenWait); w.underway.Load() > 0 && time.Now().Before(late); {
		time.Sleep(time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.path == "" || w.closed {
		return nil
	}
	f, end, err := openFile(w.path)
	if err != nil {
		return err
	}
	old := w.file
	w.keep()
	if old == nil || !sameFile(old.out, f.out) {
		w.torn = end.torn
	}
	w.file = f
	if old == nil {
		return nil
	}
	return old.close()
}

func sameFile(a, b io.Writer) bool {
	var infos [2]os.FileInfo
	for i, w := range []io.Writer{a, b} {
		f, ok := w.(*os.File)
		if !ok {
			return false
		}
		info, err := f.Stat()
		if err != nil {
			return false
		}
		infos[i] = info
	}
	return os.SameFile(infos[0], infos[1])
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
	err := w.note() // of losses, if need be
	w.closed = true
	if w.file == nil {
		return err
	}
	w.keep()
	return errors.Join(err, w.file.close())
}

// Stats are the counts at this moment.
func (w *Writer) Stats() Stats {
	return Stats{Written: w.written.Load(), Dropped: w.dropped.Load(), Failed: w.failed.Load()}
}

// write writes one record, and before it what there is to note. The caller holds mu.
func (w *Writer) write(r Record) {
	if w.closed {
		w.dropped.Add(1)
		return
	}
	var err error
	if w.torn != nil || w.gap != nil || w.losses > 0 || len(w.queue) == 0 { // not in the middle of a burst
		err = w.note()
	}
	if err == nil {
		err = w.line(r)
	}
	if err != nil {
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

// line writes r with one call, so that a crash tears one line at most. The caller
// holds mu.
func (w *Writer) line(r Record) error {
	b, next, err := w.head.link(r)
	if err != nil {
		return err
	}
	if err := w.makeRoom(int64(len(b))); err != nil {
		return err
	}
	if w.torn != nil && !w.torn.ended {
		b = append([]byte{'\n'}, b...)
	}
	n, err := w.file.out.Write(b)
	w.file.size += int64(n)
	if n < len(b)-1 { // but for its end it may be there
		w.cutOff(b[:n])
		return cmp.Or(err, io.ErrShortWrite)
	}
	if w.file.began.IsZero() {
		w.file.first, w.file.began = next.Seq, r.Time
	}
	w.head, w.torn = next, nil
	if n < len(b) {
		w.torn = newTornBytes(nil)
	}
	return nil
}

// cutOff remembers that b is all that was written of a line.
func (w *Writer) cutOff(b []byte) {
	switch {
	case len(b) == 0:
	case w.torn == nil:
		w.torn = newTornBytes(b)
	default:
		if w.torn.ended {
			w.torn.add([]byte{'\n'})
			w.torn.ended = false
		}
		w.torn.add(b)
	}
}

// keep flushes the file and keeps the head of what is safe then. The caller holds
// mu.
func (w *Writer) keep() {
	if w.file == nil || !w.file.regular || w.kept == w.head {
		return
	}
	err := w.file.flush()
	if err == nil {
		err = writeHead(w.path, w.head)
	}
	if err == nil {
		w.kept = w.head
	} else if w.headOK {
		w.log.Error("it would not show if the end of the audit were cut off", zap.Error(err))
	}
	w.headOK = err == nil
}

// repair notes what the last run has left behind, before anything else happens.
func (w *Writer) repair() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.torn.note() == nil && w.gap == nil {
		return
	}
	if w.torn.note() != nil {
		w.log.Warn("the last line of the audit was torn; it is noted in the chain", zap.Int64("bytes", w.torn.n))
	}
	if w.gap != nil {
		w.log.Error("lines are missing at the end of the audit file", zap.Uint64("from", w.gap.From), zap.Uint64("to", w.gap.To))
	}
	if err := w.note(); err != nil {
		w.log.Error("noting what is wrong with the audit", zap.Error(err)) // the next record tries again
	}
}

// note writes down what a reader must know, if there is anything. The caller
// holds mu.
func (w *Writer) note() error {
	lost := w.dropped.Load() + w.failed.Load() - w.told
	n := Note{Torn: w.torn.note(), Lost: lost, Gap: w.gap}
	if n == (Note{}) {
		return nil
	}
	if err := w.line(Record{Time: time.Now(), Event: Noted, Note: &n}); err != nil {
		return err
	}
	w.gap = nil
	w.told += lost
	return nil
}
