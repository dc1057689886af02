package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// The lines of the audit form a chain: each ends with its number, the hash of the
// line before it, and its own hash, which is the SHA-256 of all that stands before
// `,"hash"` in the line. A line that is taken out, changed or moved breaks it.
//
//	{"time":…,"event":"decided",…,"seq":7,"prev":"9f2c…","hash":"03ab…"}
//
// The chain goes on from one file to the next. It has no key: whoever may write
// the files can make a new chain from any line on. So its head belongs elsewhere
// as well (see Head).

// Link is what ties a line to the one before it.
type Link struct {
	// Seq numbers the lines from 1, over all files.
	Seq uint64 `json:"seq"`
	// Prev is the Hash of the line before, zeros in line 1.
	Prev string `json:"prev"`
	// Hash is this line's own, in hexadecimal.
	Hash string `json:"hash"`
}

// Line is a record as it stands in a file. Its Seq is 0 in files from before
// there was a chain.
type Line struct {
	Record
	Link
}

// Head is the end of a chain at some moment. Whoever keeps one where the broker
// cannot reach it can prove later that nothing before it has changed. The zero
// value is a chain without lines.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// String is seq:hash, which ParseHead reads.
func (h Head) String() string { return strconv.FormatUint(h.Seq, 10) + ":" + h.hash() }

// ParseHead reads what String writes.
func ParseHead(s string) (Head, error) {
	seq, hash, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil || !isHash(hash) {
		return Head{}, fmt.Errorf("%.100q is not the head of a chain: a number, a colon and %d hexadecimal digits", s, hashLen)
	}
	return Head{n, hash}, nil
}

const hashLen = 2 * sha256.Size

var firstPrev = strings.Repeat("0", hashLen)

func (h Head) hash() string {
	if h.Seq == 0 {
		return firstPrev
	}
	return h.Hash
}

// link is r as the line that follows h, with its end, and the head that it makes.
func (h Head) link(r Record) ([]byte, Head, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, h, fmt.Errorf("encoding an audit record: %w", err)
	}
	b.Truncate(b.Len() - len("}\n"))
	next := Head{Seq: h.Seq + 1}
	fmt.Fprintf(&b, `,"seq":%d,"prev":"%s"`, next.Seq, h.hash())
	next.Hash = digest(b.Bytes())
	fmt.Fprintf(&b, `,"hash":"%s"}`+"\n", next.Hash)
	return b.Bytes(), next, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// unlink takes the link off a line without its end. body is what its hash is of;
// ok is false if the line has no link.
func unlink(line []byte) (l Link, body []byte, ok bool) {
	rest, found := bytes.CutSuffix(line, []byte(`"}`))
	if !found {
		return Link{}, nil, false
	}
	if rest, l.Hash, ok = cutHash(rest, `,"hash":"`); !ok {
		return Link{}, nil, false
	}
	body = rest
	if rest, found = bytes.CutSuffix(rest, []byte(`"`)); !found {
		return Link{}, nil, false
	}
	if rest, l.Prev, ok = cutHash(rest, `,"prev":"`); !ok {
		return Link{}, nil, false
	}
	const key = `,"seq":`
	i := bytes.LastIndex(rest, []byte(key))
	if i < 0 {
		return Link{}, nil, false
	}
	digits := string(rest[i+len(key):])
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || digits != strconv.FormatUint(n, 10) {
		return Link{}, nil, false
	}
	l.Seq = n
	return l, body, true
}

// cutHash takes a hash, and key before it, off the end of b.
func cutHash(b []byte, key string) (rest []byte, hash string, ok bool) {
	if len(b) < len(key)+hashLen {
		return nil, "", false
	}
	at := len(b) - hashLen
	hash = string(b[at:])
	rest, ok = bytes.CutSuffix(b[:at], []byte(key))
	return rest, hash, ok && isHash(hash)
}

func isHash(s string) bool {
	return len(s) == hashLen && strings.Trim(s, "0123456789abcdef") == ""
}
