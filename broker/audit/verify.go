package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
)

// Check says what to hold an audit against.
type Check struct {
	// Files are the files, oldest first.
	Files []string
	// Heads are heads of the chain at earlier times, such as the one that the broker
	// keeps beside the file; the lines must lead through them. See KeptHead.
	Heads []Head
	// Whole: Files are all that there should be, so that the beginning may only be
	// missing if it was deleted by rule.
	Whole bool
}

// KeptHead is the head that the broker keeps beside the audit file at path; the
// zero Head if there is none.
func KeptHead(path string) (Head, error) { return readHead(path) }

// Verdict is what Verify found.
type Verdict struct {
	// Lines were looked at; of these, Unchained are from before there was a chain.
	Lines     int `json:"lines"`
	Unchained int `json:"unchained,omitempty"`
	// First is the number of the first line of the chain that is there, 0 if none is.
	First uint64 `json:"first"`
	// Head is the last line before Broken.
	Head Head `json:"head"`
	// Notes are what the broker itself has written down about the audit.
	Notes []string `json:"notes,omitempty"`
	// Broken is the first line with which something is wrong, nil if all is well.
	Broken *Broken `json:"broken,omitempty"`
}

// Broken is a place where the chain breaks.
type Broken struct {
	File string `json:"file"`
	// Line counts from 1 in its file; 0 where a line is missing at the end.
	Line int `json:"line,omitempty"`
	// Why is a sentence.
	Why string `json:"why"`
}

func (b Broken) String() string {
	if b.Line == 0 {
		return b.File + ": " + b.Why
	}
	return fmt.Sprintf("%s:%d: %s", b.File, b.Line, b.Why)
}

// Verify looks for the first line that is not as it was written. The error is that
// a file could not be read.
func Verify(ctx context.Context, c Check) (Verdict, error) {
	v := verifier{check: c, heads: map[uint64]string{}}
	for _, h := range c.Heads {
		if was, ok := v.heads[h.Seq]; ok && was != h.Hash {
			return v.Verdict, fmt.Errorf("two different heads are given for line %d", h.Seq)
		}
		if h.Seq > 0 {
			v.heads[h.Seq] = h.Hash
		}
	}
	for _, path := range c.Files {
		err := eachLine(ctx, path, func(n int, line []byte, _ bool) error {
			v.line(place{path, n}, line)
			if v.Broken != nil {
				return errEnough
			}
			return nil
		})
		if err != nil || v.Broken != nil {
			return v.Verdict, err
		}
	}
	v.end()
	return v.Verdict, nil
}

type place struct {
	file string
	line int
}

type verifier struct {
	Verdict
	check Check
	heads map[uint64]string // by line

	last    place // of the last line
	retired uint64
	// odd are lines that are none of the chain, which the next one must explain.
	odd      hash.Hash
	oddBytes int64
	oddAt    place
}

func (v *verifier) broken(at place, format string, args ...any) {
	v.Broken = &Broken{at.file, at.line, fmt.Sprintf(format, args...)}
}

func (v *verifier) line(at place, text []byte) {
	v.Lines++
	v.last = at
	l, body, ok := unlink(text)
	switch {
	case !ok && v.First == 0 && v.odd == nil && isOldLine(text):
		v.Unchained++
	case !ok:
		v.addOdd(at, text)
	case digest(body) != l.Hash:
		v.broken(at, "line %d of the chain was changed", l.Seq)
	default:
		v.linked(at, text, l)
	}
}

// isOldLine reports whether text can be a line from before there was a chain.
func isOldLine(text []byte) bool {
	_, ok := parseLine(text)
	return ok && !bytes.Contains(text, []byte(`"hash":`))
}

func (v *verifier) addOdd(at place, text []byte) {
	if v.odd == nil {
		v.odd, v.oddBytes, v.oddAt = sha256.New(), 0, at
	} else {
		v.odd.Write([]byte{'\n'}) // never fails
		v.oddBytes++
	}
	v.odd.Write(text)
	v.oddBytes += int64(len(text))
}

// linked takes a line that is whole in itself.
func (v *verifier) linked(at place, text []byte, l Link) {
	var note Note
	if line, ok := parseLine(text); ok && line.Note != nil {
		note = *line.Note
	}
	if v.odd != nil {
		if t := note.Torn; t == nil || t.Bytes != v.oddBytes || t.SHA256 != hex.EncodeToString(v.odd.Sum(nil)) {
			v.broken(v.oddAt, "this is no line of the chain")
			return
		}
		v.odd = nil
	}
	want := v.Head.Seq + 1
	switch {
	case v.First == 0:
		v.First = l.Seq
		if l.Seq == 1 && l.Prev != firstPrev {
			v.broken(at, "line 1 says that there was one before it")
		} else if l.Seq > 1 && v.Unchained > 0 {
			v.broken(at, "lines from before there was a chain stand before line %d of it", l.Seq)
		}
	case l.Seq > want && note.Gap != nil && note.Gap.To == l.Seq-1:
		v.broken(at, "%s were missing already when the broker started here", lines(want, l.Seq-1))
	case l.Seq > want:
		v.broken(at, "%s are missing before it", lines(want, l.Seq-1))
	case l.Seq < want:
		v.broken(at, "line %d of the chain does not belong after line %d", l.Seq, v.Head.Seq)
	case l.Prev != v.Head.Hash:
		v.broken(at, "the line before it is not the one that was there when line %d was written", l.Seq)
	}
	if v.Broken != nil {
		return
	}
	if want, ok := v.heads[l.Seq]; ok && want != l.Hash {
		v.broken(at, "line %d is not the one whose hash was kept: the chain was made anew", l.Seq)
		return
	}
	v.Head = Head{l.Seq, l.Hash}
	v.noted(l.Seq, note)
}

func (v *verifier) noted(seq uint64, n Note) {
	say := func(format string, args ...any) {
		const most = 1000
		if len(v.Notes) < most {
			v.Notes = append(v.Notes, fmt.Sprintf("line %d: ", seq)+fmt.Sprintf(format, args...))
		}
	}
	if n.Torn != nil {
		say("before it, %d bytes of a line that was cut off as it was written", n.Torn.Bytes)
	}
	if n.Lost > 0 {
		say("%d records could not be written", n.Lost)
	}
	if n.Retired != nil {
		say("%s were deleted because they were old enough", lines(n.Retired.From, n.Retired.To))
		v.retired = max(v.retired, n.Retired.To)
	}
}

func lines(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("line %d", from)
	}
	return fmt.Sprintf("lines %d to %d", from, to)
}

func (v *verifier) end() {
	if v.odd != nil {
		// The broker may be writing it, or has died and not been started since.
		v.Notes = append(v.Notes, fmt.Sprintf("%s:%d: the end is no line yet, or was cut off by a crash; the next start of the broker notes it", v.oddAt.file, v.oddAt.line))
	}
	missing := place{file: v.last.file}
	for _, seq := range slices.Backward(slices.Sorted(maps.Keys(v.heads))) {
		if seq > v.Head.Seq {
			v.broken(missing, "%s are missing at the end", lines(v.Head.Seq+1, seq))
			return
		}
		if seq < v.First && v.check.Whole && seq > v.retired {
			v.broken(missing, "line %d, whose hash is known, is missing at the beginning", seq)
			return
		}
	}
	if v.check.Whole && v.First > max(1, v.retired+1) {
		v.broken(place{v.check.Files[0], 1}, "%s are missing before it", lines(max(1, v.retired+1), v.First-1))
	}
}
