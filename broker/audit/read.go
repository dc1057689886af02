package audit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Files are the files of the audit whose newest one is path, oldest first: those
// that the broker has moved away, and those that logrotate has (path.1,
// path.2.gz, path-20260301). Files that do not exist are no error.
func Files(path string) ([]string, error) {
	folder, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(folder + "."))
	if err != nil {
		return nil, fmt.Errorf("looking for audit files: %w", err)
	}
	type found struct {
		path  string
		first uint64
		at    time.Time
	}
	var all []found
	for _, e := range entries {
		name := e.Name()
		_, ours := parseRotated(path, name)
		rest, theirs := strings.CutPrefix(name, base)
		theirs = theirs && rest != "" && strings.ContainsAny(rest[:1], ".-") && strings.Trim(strings.TrimSuffix(rest, ".gz"), "0123456789.-") == ""
		if name != base && !ours && !theirs {
			continue
		}
		if whole, packed := strings.CutSuffix(name, ".gz"); packed && exists(filepath.Join(folder, whole)) {
			continue // being packed
		}
		f := found{path: filepath.Join(folder, name)}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			f.at = info.ModTime()
		} else {
			continue
		}
		if f.first, err = firstSeq(f.path); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	slices.SortStableFunc(all, func(a, b found) int {
		if a.first != b.first && a.first != 0 && b.first != 0 {
			if a.first < b.first {
				return -1
			}
			return 1
		}
		return a.at.Compare(b.at)
	})
	out := make([]string, len(all))
	for i, f := range all {
		out[i] = f.path
	}
	return out, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// firstSeq is the number of the first line of a file that has one.
func firstSeq(path string) (seq uint64, err error) {
	err = eachLine(context.Background(), path, func(n int, line []byte, _ bool) error {
		l, _, ok := unlink(line)
		seq = l.Seq
		if ok || n > 1000 { // a file from before there was a chain
			return errEnough
		}
		return nil
	})
	return seq, err
}

// errEnough ends a reading early, without an error.
var errEnough = errors.New("enough")

// eachLine calls do for each line of a file, which may be packed: its number from
// 1, its text without the end, and whether it has one. The text is valid until do
// returns.
func eachLine(ctx context.Context, path string, do func(n int, line []byte, ended bool) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the audit: %w", err)
	}
	defer f.Close()
	in, err := unpacked(f)
	if err == nil {
		err = eachLineOf(ctx, in, do)
	}
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return err
}

// unpacked is f, unpacked if it was packed by gzip, whatever its name is.
func unpacked(f io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(f, 256<<10)
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), bytes.Equal(magic, []byte{0xfd, '7', 'z', 'X'}):
		return nil, errors.New("only files packed by gzip can be read: unpack it first")
	}
	return in, nil
}

func eachLineOf(ctx context.Context, in io.Reader, do func(n int, line []byte, ended bool) error) error {
	r := bufio.NewReaderSize(in, 64<<10)
	var long []byte
	for n := 1; ; n++ {
		long = long[:0]
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, line...); len(long) > maxLine {
				return fmt.Errorf("line %d has more than %d MB", n, maxLine>>20)
			}
			line, err = r.ReadSlice('\n')
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		over := err != nil
		if over && len(line) == 0 {
			return nil
		}
		text, ended := bytes.CutSuffix(line, []byte("\n"))
		if err := errors.Join(ctx.Err(), do(n, text, ended)); err != nil {
			return err
		}
		if over {
			return nil
		}
	}
}

// Read calls do with every line of these files, in their order. What is no line of
// an audit is left out, and counted in skipped: Verify tells about it.
func Read(ctx context.Context, files []string, do func(Line) error) (skipped int, err error) {
	for _, path := range files {
		err := eachLine(ctx, path, func(_ int, text []byte, _ bool) error {
			line, ok := parseLine(text)
			if !ok {
				skipped++
				return nil
			}
			return do(line)
		})
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // deleted, as it was too old, since somebody looked
		}
		if err != nil {
			return skipped, err
		}
	}
	return skipped, nil
}

func parseLine(text []byte) (Line, bool) {
	var line Line
	err := json.Unmarshal(text, &line)
	return line, err == nil && line.Event != ""
}

// followEvery is the time between two looks at a file that grows.
const followEvery = 250 * time.Millisecond

// Follow calls do with every line of the file at path that comes after line seq of
// the chain (0: that is written from now on), also when another file takes its
// name, until ctx ends or do fails. It returns nil when ctx has ended.
func Follow(ctx context.Context, path string, seq uint64, do func(Line) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("following the audit: %w", err)
	}
	defer func() { f.Close() }()
	if seq == 0 {
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			return fmt.Errorf("following the audit: %w", err)
		}
	}
	var rest []byte // of a line that is not complete yet
	buf := make([]byte, 64<<10)
	drain := func() error {
		for {
			n, err := f.Read(buf)
			rest = append(rest, buf[:n]...)
			for {
				text, more, ended := bytes.Cut(rest, []byte("\n"))
				if !ended {
					break
				}
				if line, ok := parseLine(text); ok && (line.Seq == 0 || line.Seq > seq) {
					if err := do(line); err != nil {
						return err
					}
				}
				rest = more
			}
			if len(rest) > maxLine {
				rest = nil // no audit writes such lines
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("following the audit: %w", err)
			}
		}
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		// What was written before the file was moved away is read before the new one.
		next, err := os.Open(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("following the audit: %w", err)
		}
		if err := drain(); err != nil {
			closeIf(next)
			return err
		}
		if next != nil {
			if sameFile(f, next) {
				next.Close()
			} else {
				f.Close()
				f, rest = next, nil
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func closeIf(f *os.File) {
	if f != nil {
		f.Close()
	}
}
