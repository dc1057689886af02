package audit

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Rotation says when the file is moved away under a name of its own, and what
// becomes of such files. The zero value does nothing of it: something else, such as
// logrotate, may then move the file, and have Reopen called.
type Rotation struct {
	// Size is how many bytes the file may have, and Age how old its first line may
	// be; 0: any.
	Size int64
	Age  time.Duration
	// Keep is how long a file stays after it was moved away, and Files how many of
	// them do; 0: all.
	Keep  time.Duration
	Files int
	// Compress packs files with gzip once they were moved away.
	Compress bool
}

const (
	// tidyEvery is the time between two looks at what is too old.
	tidyEvery = time.Hour
	// rotateRetry is the time from a rotation that failed to the next try.
	rotateRetry = time.Minute
)

// makeRoom moves the file away if n more bytes are too many for it, and makes sure
// that there is one. The caller holds mu.
func (w *Writer) makeRoom(n int64) error {
	if w.file == nil {
		f, _, err := openFile(w.path)
		if err != nil {
			return err
		}
		w.file = f
	}
	now := time.Now()
	f, r := w.file, w.rotation
	full := r.Size > 0 && f.size+n > r.Size
	old := r.Age > 0 && now.Sub(f.began) >= r.Age
	if !f.regular || f.size == 0 || w.torn != nil || !full && !old || now.Before(w.retry) {
		return nil
	}
	return w.rotate(now)
}

// rotate moves the file away and opens a new one. Where it cannot be moved it
// stays in use. The caller holds mu.
func (w *Writer) rotate(now time.Time) error {
	w.keep()
	name := rotatedName(w.path, now, Span{w.file.first, w.head.Seq})
	// Windows does not move an open file.
	if err := w.file.close(); err != nil {
		w.log.Error("closing the audit file", zap.Error(err))
	}
	w.file = nil
	err := os.Rename(w.path, name)
	if err != nil {
		w.retry = now.Add(rotateRetry)
		w.log.Error("the audit file could not be moved away; it goes on growing", zap.Error(err))
	}
	f, _, err := openFile(w.path)
	if err != nil {
		return err
	}
	w.file = f
	w.lookAround()
	return nil
}

// Names of files that were moved away: audit-20260301T083000Z-1-4711.jsonl, with
// the time of the move and the first and last line. A file from before there was a
// chain has line 0.
const rotatedTime = "20060102T150405Z"

var rotatedPattern = regexp.MustCompile(`^-(\d{8}T\d{6}Z)-(\d{1,20})-(\d{1,20})$`)

func rotatedName(path string, at time.Time, lines Span) string {
	ext := filepath.Ext(path)
	return fmt.Sprintf("%s-%s-%d-%d%s", strings.TrimSuffix(path, ext), at.UTC().Format(rotatedTime), lines.From, lines.To, ext)
}

// rotated is a file that was moved away.
type rotated struct {
	path   string
	at     time.Time
	lines  Span
	packed bool
}

// parseRotated reads the name of a file that was moved away from path.
func parseRotated(path, name string) (r rotated, ok bool) {
	ext := filepath.Ext(path)
	name, ok = strings.CutPrefix(name, strings.TrimSuffix(filepath.Base(path), ext))
	if !ok {
		return rotated{}, false
	}
	name, r.packed = strings.CutSuffix(name, ".gz")
	if name, ok = strings.CutSuffix(name, ext); !ok {
		return rotated{}, false
	}
	parts := rotatedPattern.FindStringSubmatch(name)
	if parts == nil {
		return rotated{}, false
	}
	var errs [3]error
	r.at, errs[0] = time.Parse(rotatedTime, parts[1])
	r.lines.From, errs[1] = strconv.ParseUint(parts[2], 10, 64)
	r.lines.To, errs[2] = strconv.ParseUint(parts[3], 10, 64)
	return r, errors.Join(errs[:]...) == nil
}

// rotatedFiles are those that were moved away from path, oldest first.
func rotatedFiles(path string) ([]rotated, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var out []rotated
	for _, e := range entries {
		if r, ok := parseRotated(path, e.Name()); ok && e.Type().IsRegular() {
			r.path = filepath.Join(filepath.Dir(path), e.Name())
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b rotated) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return int(int64(a.lines.From) - int64(b.lines.From))
	})
	return out, nil
}

// tidy packs and deletes what was moved away, until ctx ends.
func (w *Writer) tidy(ctx context.Context) {
	for {
		if err := w.tidyNow(ctx, time.Now()); err != nil && ctx.Err() == nil {
			w.log.Error("old audit files", zap.Error(err))
		}
		t := time.NewTimer(tidyEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-w.untidy:
			t.Stop()
		case <-t.C:
			w.mu.Lock()
			if !w.closed {
				// Nobody may come for days, and lines are to be gone in time.
				if err := w.makeRoom(0); err != nil {
					w.log.Error("the audit file", zap.Error(err))
				}
			}
			w.mu.Unlock()
		}
	}
}

// tidyNow does it once.
func (w *Writer) tidyNow(ctx context.Context, now time.Time) error {
	files, err := rotatedFiles(w.path)
	if err != nil {
		return err
	}
	w.mu.Lock()
	r := w.rotation
	w.mu.Unlock()
	var errs []error
	for i, f := range files {
		tooOld := r.Keep > 0 && now.Sub(f.at) >= r.Keep
		tooMany := r.Files > 0 && len(files)-i > r.Files
		switch {
		case tooOld || tooMany:
			errs = append(errs, w.retire(f))
		case r.Compress && !f.packed:
			errs = append(errs, pack(ctx, f.path))
		}
	}
	return errors.Join(errs...)
}

// retire deletes f, and notes in the chain that this was the rule: else a file
// that somebody else has deleted would look the same.
func (w *Writer) retire(f rotated) error {
	if err := os.Remove(f.path); err != nil {
		return err
	}
	w.log.Info("an audit file was deleted, as the configuration says", zap.String("file", f.path))
	if f.lines.To == 0 { // it had no chain
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	err := w.note() // what is torn must be told first
	if err == nil {
		f.lines.From = max(1, f.lines.From)
		err = w.line(Record{Time: time.Now(), Event: Noted, Note: &Note{Retired: &f.lines}})
	}
	return err
}

// pack puts path.gz in the place of the file at path. A crash leaves one of them
// whole.
func pack(ctx context.Context, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := path + ".gz.tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			out.Close()
			os.Remove(tmp)
			err = fmt.Errorf("packing %s: %w", path, err)
		}
	}()
	z := gzip.NewWriter(out)
	if _, err := io.Copy(z, untilDone{ctx, in}); err != nil {
		return err
	}
	if err := errors.Join(z.Close(), out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		return err
	}
	in.Close() // Windows does not delete an open file
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// untilDone reads until its context ends: nobody waits for a large file to be
// packed when the broker stops.
type untilDone struct {
	ctx context.Context
	in  io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.in.Read(p)
}
