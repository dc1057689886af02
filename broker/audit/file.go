package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// file is what lines are written to: the audit file under its name, or something
// that only takes bytes, such as a pipe.
type file struct {
	out io.Writer
	// regular: it can be read back, flushed and moved away.
	regular bool
	size    int64     // bytes in it
	first   uint64    // number of its first line, 0 if that has none
	began   time.Time // of its first line; zero while there is none
}

// openFile opens the audit file at path, and makes it if it does not exist, for
// its owner and group to read: it tells who works when, and where. Its folder is
// made if only that is missing.
func openFile(path string) (*file, ending, error) {
	if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, ending{}, fmt.Errorf("making the folder of the audit file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, ending{}, fmt.Errorf("opening the audit file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return &file{out: f}, ending{}, nil
	}
	opened := &file{out: f, regular: true}
	var end ending
	if err == nil && info.Size() > 0 {
		opened.size = info.Size()
		end, err = opened.look(path, info.ModTime())
	}
	if err != nil {
		return nil, ending{}, fmt.Errorf("reading the audit file: %w", errors.Join(err, f.Close()))
	}
	return opened, end, nil
}

// look reads how the file at path begins and ends. The time of its first line is
// modified where that does not tell.
func (f *file) look(path string, modified time.Time) (ending, error) {
	in, err := os.Open(path)
	if err != nil {
		return ending{}, err
	}
	defer in.Close()
	f.began = modified
	// A first line that is longer than this tells neither; that costs little.
	start := make([]byte, min(f.size, 1<<20))
	if _, err := in.ReadAt(start, 0); err != nil {
		return ending{}, err
	}
	if line, _, ok := bytes.Cut(start, []byte("\n")); ok {
		l, _, _ := unlink(line)
		f.first = l.Seq
		var r struct{ Time time.Time }
		if json.Unmarshal(line, &r) == nil && !r.Time.IsZero() {
			f.began = r.Time
		}
	}
	return readEnding(in, f.size)
}

// ending is how a file ends.
type ending struct {
	// head is that of its last line, zero if there is none with a link.
	head Head
	// torn is what stands behind that, nil if nothing does.
	torn *tornBytes
}

// maxLine bounds a line, in bytes: a refusal lists every session of a farm.
const maxLine = 64 << 20

// readEnding looks for the last line of the audit in the size bytes of in.
func readEnding(in io.ReaderAt, size int64) (ending, error) {
	for most := int64(64 << 10); ; most *= 8 {
		from := max(0, size-most)
		b := make([]byte, size-from)
		if _, err := in.ReadAt(b, from); err != nil {
			return ending{}, err
		}
		end, found := lastLine(b)
		if found || from == 0 {
			return end, nil
		}
		if most > maxLine {
			return ending{}, fmt.Errorf("there is no line of an audit in its last %d MB: move it away", most>>20)
		}
	}
}

// lastLine looks for the last line of the audit in b; found is false if none begins
// and ends there. Lines from before there was a chain are JSON and have no link.
func lastLine(b []byte) (end ending, found bool) {
	after := bytes.LastIndexByte(b, '\n') + 1 // behind the last complete line
	if l, body, ok := unlink(b[after:]); ok && digest(body) == l.Hash {
		// All of it is there but its end.
		return ending{Head{l.Seq, l.Hash}, newTornBytes(nil)}, true
	}
	for after > 0 {
		start := bytes.LastIndexByte(b[:after-1], '\n') + 1
		line := b[start : after-1]
		if l, _, ok := unlink(line); ok {
			end.head, found = Head{l.Seq, l.Hash}, true
			break
		}
		if len(line) > 0 && line[0] == '{' && json.Valid(line) {
			found = true
			break
		}
		after = start
	}
	if rest, ended := bytes.CutSuffix(b[after:], []byte("\n")); len(rest) > 0 || ended {
		end.torn = newTornBytes(rest)
		end.torn.ended = ended
	}
	return end, found
}

// tornBytes are bytes at the end of a file that are no line.
type tornBytes struct {
	n   int64 // 0: only the end of the last line is missing
	sum hash.Hash
	// ended: an end of line, which is not counted, stands behind them.
	ended bool
}

func newTornBytes(b []byte) *tornBytes {
	t := &tornBytes{sum: sha256.New()}
	t.add(b)
	return t
}

func (t *tornBytes) add(b []byte) {
	t.n += int64(len(b))
	t.sum.Write(b) // never fails
}

// note is what to say of them, nil if nothing.
func (t *tornBytes) note() *Torn {
	if t == nil || t.n == 0 {
		return nil
	}
	return &Torn{Bytes: t.n, SHA256: hex.EncodeToString(t.sum.Sum(nil))}
}

// flush brings what was written to the disk.
func (f *file) flush() error {
	if o, ok := f.out.(*os.File); ok && f.regular { // devices and pipes cannot be flushed, and need not be
		return o.Sync()
	}
	return nil
}

// close flushes and closes the file.
func (f *file) close() error {
	err := f.flush()
	if c, ok := f.out.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return fmt.Errorf("closing the audit file: %w", err)
	}
	return nil
}

// headFile keeps the head of the chain beside the file at path: that lines are
// missing from the end shows by nothing else.
func headFile(path string) string { return path + ".head" }

// readHead is the head that was kept for the file at path; the zero Head if none was.
func readHead(path string) (Head, error) {
	b, err := os.ReadFile(headFile(path))
	if errors.Is(err, fs.ErrNotExist) {
		return Head{}, nil
	}
	if err != nil {
		return Head{}, fmt.Errorf("reading the head of the audit: %w", err)
	}
	var h Head
	if err := json.Unmarshal(b, &h); err != nil || h.Seq > 0 && !isHash(h.Hash) {
		return Head{}, fmt.Errorf("%s does not hold the head of an audit", headFile(path))
	}
	return h, nil
}

func writeHead(path string, h Head) error {
	b, err := json.Marshal(h)
	if err == nil {
		// The old one stays whole until the new one is.
		fresh := headFile(path) + ".tmp"
		if err = os.WriteFile(fresh, append(b, '\n'), 0o640); err == nil {
			err = os.Rename(fresh, headFile(path))
		}
	}
	if err != nil {
		return fmt.Errorf("keeping the head of the audit: %w", err)
	}
	return nil
}
