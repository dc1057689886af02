package x224

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

// capture is one row of testdata/first-packets.tsv: what a client or a host
// really sent first, with its public origin.
type capture struct {
	line      int
	source    string
	direction string // C>S or S>C
	bytes     []byte
}

func captures(t testing.TB) []capture {
	t.Helper()
	var all []capture
	for i, row := range readTable(t, "testdata/first-packets.tsv") {
		b, err := hex.DecodeString(row[2])
		if err != nil {
			t.Fatalf("line %d: %v", i+2, err)
		}
		all = append(all, capture{line: i + 2, source: row[0], direction: row[1], bytes: b})
	}
	return all
}

// readTable reads a file of tab-separated columns without its heading.
func readTable(t testing.TB, path string) [][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for _, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		if !strings.HasPrefix(line, "#") {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows[1:]
}

// golden is the expected result of one capture.
type golden struct{ result, cookie, token, negotiation, correlation, blob, mismatch, left string }

func goldens(t *testing.T) map[int]golden {
	t.Helper()
	all := make(map[int]golden)
	for _, c := range readTable(t, "testdata/first-packets.golden.tsv") {
		line, err := strconv.Atoi(c[0])
		if err != nil {
			t.Fatal(err)
		}
		all[line] = golden{c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9]}
	}
	return all
}

// TestCaptures reads every first packet that was ever found, as a stream.
func TestCaptures(t *testing.T) {
	want := goldens(t)
	for _, c := range captures(t) {
		t.Run(fmt.Sprintf("line %d", c.line), func(t *testing.T) {
			w, ok := want[c.line]
			if !ok {
				t.Fatal("no expected result")
			}
			// One byte at a time, as a slow network would have it, and all at once.
			for _, chunk := range []int{1, 1 << 16} {
				r := &countingReader{b: c.bytes, chunk: chunk}
				var got golden
				if c.direction == "C>S" {
					got = describeOpening(ReadOpening(r))
				} else {
					got = describeConfirm(readConfirm(r))
				}
				got.left = "-"
				if n := len(c.bytes) - r.n; n > 0 && (got.result == "request" || w.left != "-") {
					got.left = strconv.Itoa(n)
				}
				if got != unquoted(t, w) {
					t.Errorf("%s, %d bytes at a time:\n got %+v\nwant %+v", c.source, chunk, got, unquoted(t, w))
				}
			}
		})
	}
	if len(want) != len(captures(t)) {
		t.Errorf("%d expected results for %d captures", len(want), len(captures(t)))
	}
}

// TestCapturesSurviveMarshal writes every captured request again from its
// fields. Nothing may be lost, and a correct packet must come out byte for byte.
func TestCapturesSurviveMarshal(t *testing.T) {
	identical := 0
	for _, c := range captures(t) {
		if c.direction == "S>C" {
			if confirm, err := ParseConfirm(c.bytes); err == nil && string(confirm.Append(nil)) != string(c.bytes) {
				t.Errorf("line %d: %x became %x", c.line, c.bytes, confirm.Append(nil))
			}
			continue
		}
		o, err := ReadOpening(&countingReader{b: c.bytes, chunk: 1 << 16})
		if err != nil {
			continue
		}
		again := o.Request.Append(nil)
		if string(again) == string(o.Request.Raw) {
			identical++
			continue
		}
		if clean(c.line) {
			t.Errorf("line %d: %x became %x", c.line, o.Request.Raw, again)
		}
		checkSameFields(t, o.Request, again)
	}
	if identical < 80 {
		t.Errorf("only %d captured requests came out byte for byte", identical)
	}
}

// clean tells the captures that must survive byte for byte from those that
// break the specification, by line.
func clean(line int) bool {
	switch {
	case line == 97, line == 98, line == 99, line == 100, line == 104: // LI wrapped: still the same bytes
		return true
	case line >= 107 && line <= 114, line >= 119 && line <= 134, line >= 149:
		return false
	}
	return true
}

func describeOpening(o *Opening, err error) golden {
	g := golden{result: verdict(err), cookie: "-", token: "-", negotiation: "-", correlation: "-", blob: "-", mismatch: "-"}
	if err != nil {
		return g
	}
	g.result = "request"
	if p := o.Preconnection; p != nil {
		g.blob = fmt.Sprintf("v%d id=%d %q", p.Version, p.ID, p.Payload)
	}
	r := o.Request
	if r.HasCookie {
		g.cookie = "cookie " + r.Cookie
	}
	if r.Token != nil {
		g.token = "token " + string(r.Token)
	}
	if n := r.Negotiation; n != nil {
		g.negotiation = fmt.Sprintf("%02x/%08x", n.Flags, uint32(n.Protocols))
	}
	if r.CorrelationID != nil {
		g.correlation = hex.EncodeToString(r.CorrelationID[:])
	}
	if r.LengthMismatch {
		g.mismatch = "yes"
	}
	return g
}

// unquoted is g with the quoted columns as describeOpening makes them.
func unquoted(t *testing.T, g golden) golden {
	t.Helper()
	for column, s := range map[string]*string{"cookie ": &g.cookie, "token ": &g.token} {
		if *s == "-" {
			continue
		}
		text, err := strconv.Unquote(*s)
		if err != nil {
			t.Fatalf("%s: %v", *s, err)
		}
		*s = column + text
	}
	if strings.HasPrefix(g.result, "incomplete") { // the stream ended while a blob or packet was read
		g.blob = "-"
	}
	return g
}

func describeConfirm(c *Confirm, err error) golden {
	g := golden{result: verdict(err), cookie: "-", token: "-", negotiation: "-", correlation: "-", blob: "-", mismatch: "-"}
	if err != nil {
		return g
	}
	g.result = "confirm"
	switch {
	case !c.Negotiated:
		g.negotiation = fmt.Sprintf("none src=%04x", c.SrcRef)
	case c.Failure:
		g.negotiation = fmt.Sprintf("failure %02x/%08x src=%04x", c.Flags, c.Value, c.SrcRef)
	default:
		g.negotiation = fmt.Sprintf("rsp %02x/%08x src=%04x", c.Flags, c.Value, c.SrcRef)
	}
	return g
}

func readConfirm(r io.Reader) (*Confirm, error) {
	b, err := ReadTPKT(r, MaxPacket)
	if err != nil {
		return nil, err
	}
	return ParseConfirm(b)
}

func verdict(err error) string {
	var format *FormatError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &format):
		return string(format.Kind)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "incomplete"
	case err == io.EOF:
		return "empty"
	}
	return err.Error()
}

// countingReader hands out b in pieces and counts what was taken.
type countingReader struct {
	b        []byte
	n, chunk int
}

func (r *countingReader) Read(p []byte) (int, error) {
	if r.n == len(r.b) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.chunk)], r.b[r.n:])
	r.n += n
	return n, nil
}
