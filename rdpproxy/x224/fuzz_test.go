package x224

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
)

// FuzzReadOpening: whatever comes, no panic, nothing read beyond the request,
// nothing larger than the limits, and what was understood can be written again.
func FuzzReadOpening(f *testing.F) {
	for _, c := range captures(f) {
		f.Add(c.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &countingReader{b: b, chunk: 1 + len(b)/3}
		o, err := ReadOpening(r)
		if r.n > MaxOpening {
			t.Fatalf("%d bytes were read", r.n)
		}
		checkParsed(t, b, o, r.n, err)
		if err != nil {
			var format *FormatError
			if !errors.As(err, &format) && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		blob := r.n - len(o.Request.Raw)
		if (o.Preconnection == nil) != (blob == 0) {
			t.Fatalf("%d bytes before the request, blob %+v", blob, o.Preconnection)
		}
		if !bytes.Equal(o.Request.Raw, b[blob:r.n]) {
			t.Fatalf("read %d of %x, Raw is %x", r.n, b, o.Request.Raw)
		}
		if strings.Contains(o.Request.Cookie, "\r\n") || bytes.Contains(o.Request.Token, crlf) {
			t.Fatalf("CR LF in %+v", o.Request)
		}
		again := o.Request.Append(nil)
		if len(again) <= MaxPacket {
			checkSameFields(t, o.Request, again)
		}
	})
}

// checkParsed: piece by piece comes to the same as reading, and no piece is taken for
// the whole.
func checkParsed(t *testing.T, b []byte, want *Opening, n int, wantErr error) {
	t.Helper()
	o, taken, err := ParseOpening(b)
	switch {
	case want != nil && (err != nil || taken != n || !bytes.Equal(o.Request.Raw, want.Request.Raw)):
		t.Fatalf("parsed %d bytes, %v; read %d", taken, err, n)
	case want == nil && o != nil, errors.Is(err, ErrIncomplete) && (len(b) >= MaxOpening || errors.As(wantErr, new(*FormatError))):
		t.Fatalf("parsed %+v, %v; read %v", o, err, wantErr)
	}
	for i := range min(n, len(b)) {
		if o, _, err := ParseOpening(b[:i]); o != nil || want != nil && !errors.Is(err, ErrIncomplete) {
			t.Fatalf("parsed %+v, %v from %d bytes of %d", o, err, i, n)
		}
	}
}

// FuzzRequestFields goes the other way: fields, bytes, fields.
func FuzzRequestFields(f *testing.F) {
	f.Add("alice", true, []byte(nil), true, uint8(0), uint32(3), []byte(nil))
	f.Add("", false, []byte("Cookie: msts=16777343.15629.0000"), true, uint8(8), uint32(11), []byte("0123456789abcdef"))
	f.Add("IT-HELP\\A", true, []byte("tsv://x"), false, uint8(0), uint32(0), []byte(nil))
	f.Fuzz(func(t *testing.T, cookie string, hasCookie bool, token []byte, negotiate bool, flags uint8, protocols uint32, id []byte) {
		r := &Request{Cookie: cookie, HasCookie: hasCookie || cookie != "", Token: token}
		if len(token) == 0 {
			r.Token = nil
		}
		if negotiate {
			r.Negotiation = &Negotiation{Flags: flags, Protocols: Protocol(protocols)}
			if len(id) >= 16 {
				correlation := [16]byte(id)
				r.CorrelationID = &correlation
				r.Negotiation.Flags |= FlagCorrelation
			}
		}
		if !writable(r) {
			return
		}
		b := r.Append([]byte("before"))
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatal("Append changed what was there")
		}
		if b = b[len("before"):]; len(b) > MaxPacket {
			return
		}
		checkSameFields(t, r, b)
		again, _ := ParseRequest(b)
		if !bytes.Equal(again.Append(nil), b) {
			t.Errorf("%x became %x", b, again.Append(nil))
		}
	})
}

// writable says which fields Append can express: its documented conditions,
// and no token that would be something else at the place where it is written.
func writable(r *Request) bool {
	if strings.Contains(r.Cookie, "\r\n") || bytes.Contains(r.Token, crlf) {
		return false
	}
	_, isCookie := cutPrefixFold(r.Token, cookiePrefix)
	return !isCookie && !isNegotiation(r.Token) && len(unwrap(r.Token)) == len(r.Token)
}

func FuzzParseConfirm(f *testing.F) {
	for _, c := range captures(f) {
		if c.direction == "S>C" {
			f.Add(c.bytes)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfirm(b)
		if err != nil {
			return
		}
		again, err := ParseConfirm(c.Append(nil))
		if err != nil || *again != *c {
			t.Fatalf("%x: %+v became %+v, %v", b, c, again, err)
		}
	})
}

func FuzzMSTSToken(f *testing.F) {
	f.Add([]byte("Cookie: msts=3640205228.15629.0000"))
	f.Fuzz(func(t *testing.T, token []byte) {
		ap, ok := ParseMSTSToken(token)
		if !ok {
			return
		}
		again, ok := ParseMSTSToken(AppendMSTSToken(nil, ap))
		if !ok || again != ap || ap == (netip.AddrPort{}) {
			t.Fatalf("%q: %s became %s", token, ap, again)
		}
	})
}

// TestReadAllocatesLittle: the length fields are the attacker's.
func TestReadAllocatesLittle(t *testing.T) {
	for _, b := range [][]byte{
		{3, 0, 0xff, 0xff}, {0xff, 0xff, 0xff, 0x7f}, {0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0}, {0, 8, 0, 0}, {3, 0, 2, 0},
	} {
		const runs = 1000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			_, _ = ReadOpening(bytes.NewReader(b))
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / runs; each > maxBlob+MaxPacket+512 {
			t.Errorf("%x: %d bytes allocated", b, each)
		}
	}
}
