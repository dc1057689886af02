package x224

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// request builds a packet around a variable part, with a right LI.
func request(variable string) []byte {
	b := append([]byte{3, 0, 0, 0, 0, 0xE0, 0, 0, 0, 0, 0}, variable...)
	return setLengths(b, 0)
}

func TestParseRequest(t *testing.T) {
	const neg = "\x01\x00\x08\x00\x0b\x00\x00\x00"
	both := &Negotiation{Protocols: ProtocolSSL | ProtocolHybrid | ProtocolHybridEx}
	for _, tt := range []struct {
		name     string
		variable string
		want     Request // without Raw
	}{
		{name: "bare"},
		{name: "empty line", variable: "\r\n" + neg, want: Request{Negotiation: both}},
		{name: "cookie", variable: "Cookie: mstshash=alice\r\n" + neg, want: Request{Cookie: "alice", HasCookie: true, Negotiation: both}},
		{name: "RDP 5", variable: "Cookie: mstshash=alice\r\n", want: Request{Cookie: "alice", HasCookie: true}},
		{name: "cookie without end before negotiation", variable: "Cookie: mstshash=alice" + neg, want: Request{Cookie: "alice", HasCookie: true, Negotiation: both}},
		{name: "token without end", variable: "tsv://farm", want: Request{Token: []byte("tsv://farm")}},
		{name: "mth", variable: "mth://localhost/1/2\r\n" + neg, want: Request{Token: []byte("mth://localhost/1/2"), Negotiation: both}},
		{name: "opaque token with any bytes", variable: "\x00\xff\r\x01\n\r\n" + neg, want: Request{Token: []byte("\x00\xff\r\x01\n"), Negotiation: both}},
		{name: "garbage without end", variable: "garbage" + neg},
		{name: "token before cookie", variable: "opaque\r\nCookie: mstshash=bob\r\n" + neg, want: Request{Cookie: "bob", HasCookie: true, Token: []byte("opaque"), Negotiation: both}},
		{name: "first cookie wins", variable: "Cookie: mstshash=a\r\nCookie: mstshash=b\r\n", want: Request{Cookie: "a", HasCookie: true}},
		{name: "first token wins", variable: "a\r\nb\r\n" + neg, want: Request{Token: []byte("a"), Negotiation: both}},
		{name: "HYBRID without SSL", variable: "\x01\x01\x08\x00\x0a\x00\x00\x00", want: Request{Negotiation: &Negotiation{Flags: FlagRestrictedAdmin, Protocols: ProtocolHybrid | ProtocolHybridEx}}},
		{name: "second negotiation", variable: neg + "\x01\x00\x08\x00\x00\x00\x00\x00", want: Request{Negotiation: both}},
		{name: "negotiation of a wrong length", variable: "\x01\x00\x09\x00\x0b\x00\x00\x00"},
		{name: "nested request with a cookie", variable: string(request("Cookie: mstshash=carol\r\n")) + neg, want: Request{Cookie: "carol", HasCookie: true, Negotiation: both}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := request(tt.variable)
			got, err := ParseRequest(b)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Raw = b
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	long := request("Cookie: mstshash=" + strings.Repeat("a", MaxPacket-minRequest-len(cookiePrefix)-2) + "\r\n")
	if _, err := ParseRequest(long); err != nil {
		t.Fatalf("%d bytes: %v", len(long), err)
	}
	class := request("")
	class[10] = 0x20
	for _, tt := range []struct {
		name string
		b    []byte
		want Kind
	}{
		{"nothing", nil, KindBadLength},
		{"two bytes", []byte{3, 0}, KindBadLength},
		{"one byte short", request("x\r\n")[:13], KindBadLength},
		{"one byte more", append(request("x\r\n"), 0), KindBadLength},
		{"one byte above the limit", request(string(make([]byte, MaxPacket-minRequest+1))), KindTooLong},
		{"class 2", class, KindNotCR},
		{"a confirm", new(Confirm).Append(nil), KindNotCR},
		{"TLS", []byte{0x16, 3, 1, 0, 5}, KindTLS},
		{"PROXY", []byte("PROXY TCP4"), KindProxyHeader},
		{"SOCKS4", []byte{4, 1, 0x0d, 0x3d}, KindSOCKS},
	} {
		_, err := ParseRequest(tt.b)
		var format *FormatError
		if !errors.As(err, &format) || format.Kind != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if format != nil && !slices.Contains(Kinds(), format.Kind) {
			t.Errorf("%s is not one of Kinds", format.Kind)
		}
	}
}

// TestLengthIndicator checks the one byte that clients get wrong.
func TestLengthIndicator(t *testing.T) {
	for n, mismatch := range map[int]bool{0: false, 254 - 6: false, 255 - 6: false, 256 - 6: true, 300: true} {
		b := request(strings.Repeat("x", n))
		r, err := ParseRequest(b)
		if err != nil {
			t.Fatal(err)
		}
		if r.LengthMismatch != mismatch {
			t.Errorf("LI %d of %d bytes: mismatch %t", b[4], len(b), r.LengthMismatch)
		}
	}
}

func TestReadOpeningErrors(t *testing.T) {
	blob := (&Preconnection{Version: 2, Payload: "farm"}).Append(nil)
	with := func(b []byte, i int, v byte) []byte {
		b = bytes.Clone(b)
		b[i] = v
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want string // as verdict says it
	}{
		{"blob alone", blob, "incomplete"},
		{"half a blob", blob[:20], "incomplete"},
		{"blob with flags", with(blob, 4, 1), "bad-blob"},
		{"blob of version 3", with(blob, 8, 3), "bad-blob"},
		{"blob of version 1 with text", with(blob, 8, 1), "bad-blob"},
		{"blob with more characters than bytes", with(blob, 16, 9), "bad-blob"},
		{"blob of 14 bytes", []byte{14, 0, 0, 0}, "bad-blob"},
		{"blob of 2048 bytes", []byte{0, 8, 0, 0, 0}, "incomplete"},
		{"blob of 2050 bytes", []byte{2, 8, 0, 0}, "not-tpkt"},
		{"two blobs", append(bytes.Clone(blob), blob...), "not-tpkt"},
		{"TLS after a blob", append(bytes.Clone(blob), 0x16, 3, 1, 0), "tls"},
		{"PROXY v1", []byte("PROXY TCP4 127.0.0.1"), "proxy-header"},
		{"PROXY v2", []byte("\r\n\r\n\x00\r\nQUIT\n"), "proxy-header"},
		{"POST", []byte("POST / HTTP/1.1\r\n"), "http"},
		{"HTTP/2", []byte("PRI * HTTP/2.0\r\n"), "http"},
	} {
		if got := verdict(second(ReadOpening(bytes.NewReader(tt.b)))); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestReaderErrors checks that errors of the reader stay recognisable: a
// caller must tell "too slow" from "went away".
func TestReaderErrors(t *testing.T) {
	whole := append((&Preconnection{Version: 1}).Append(nil), request("x\r\n")...)
	for n := range len(whole) {
		r := io.MultiReader(bytes.NewReader(whole[:n]), failing{os.ErrDeadlineExceeded})
		if _, err := ReadOpening(r); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestSOCKSIsRefusedAtOnce: its greeting is shorter than a TPKT header, and
// the client then waits for an answer.
func TestSOCKSIsRefusedAtOnce(t *testing.T) {
	r := io.MultiReader(bytes.NewReader([]byte{5, 1, 0}), failing{errors.New("read on")})
	if _, err := ReadOpening(r); verdict(err) != string(KindSOCKS) {
		t.Error(err)
	}
}

func TestPreconnection(t *testing.T) {
	for _, p := range []Preconnection{
		{Version: 1, ID: 7}, {Version: 2}, {Version: 2, ID: 0xffffffff, Payload: "TestVM"},
		{Version: 2, Payload: "Grüße 🖥"}, {Version: 2, Payload: strings.Repeat("x", (maxBlob-blobV2)/2-1)},
	} {
		b := append(p.Append(nil), request("")...)
		o, err := ReadOpening(bytes.NewReader(b))
		if err != nil {
			t.Errorf("%+v: %v", p, err)
			continue
		}
		if diff := cmp.Diff(&p, o.Preconnection); diff != "" {
			t.Error(diff)
		}
		if !bytes.Equal(o.Request.Raw, request("")) {
			t.Errorf("%+v: the request is %x", p, o.Request.Raw)
		}
	}
}

// TestMSTSToken has the two worked examples of Microsoft's documentation of
// LoadBalanceInfo and of FreeRDP, and what must not be read as an address.
func TestMSTSToken(t *testing.T) {
	for token, want := range map[string]string{
		"Cookie: msts=3640205228.15629.0000":  "172.31.249.216:3389",
		"Cookie: msts=2134026432.15629.0000":  "192.168.50.127:3389",
		"Cookie: msts=16777343.15629.0000":    "127.0.0.1:3389",
		"cookie: MSTS=16777343.15629.":        "127.0.0.1:3389",
		"Cookie: msts=16777343.15629.0000 ":   "127.0.0.1:3389",
		"Cookie: msts=16777343.15629":         "",
		"Cookie: msts=16777343.0.0000":        "",
		"Cookie: msts=4294967296.15629.0000":  "",
		"Cookie: msts=1.65536.0000":           "",
		"Cookie: msts=-1.15629.0000":          "",
		"Cookie: msts=+1.15629.0000":          "",
		"Cookie: msts=1_0.15629.0000":         "",
		"Cookie: msts=1.15629.0001":           "",
		"Cookie: msts=1.2.0.0":                "",
		"Cookie: msts=1f2e3d":                 "",
		"Cookie: mstshash=16777343.15629.000": "",
		"tsv://1.2.0000":                      "",
		"":                                    "",
	} {
		got, ok := ParseMSTSToken([]byte(token))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %s, %t; want %q", token, got, ok, want)
		}
	}
	if got := AppendMSTSToken([]byte("x"), netip.MustParseAddrPort("[2001:db8::1]:3389")); string(got) != "x" {
		t.Errorf("IPv6 became %q", got)
	}
	if got := AppendMSTSToken(nil, netip.MustParseAddrPort("[::ffff:172.31.249.216]:3389")); string(got) != "Cookie: msts=3640205228.15629.0000" {
		t.Errorf("%q", got)
	}
}

func TestConfirm(t *testing.T) {
	for _, tt := range []struct {
		name     string
		confirm  Confirm
		selected Protocol
		ok       bool
	}{
		{"no answer to the negotiation", Confirm{SrcRef: 0x1234}, ProtocolRDP, false},
		{"CredSSP", Confirm{Negotiated: true, Flags: 0x1f, Value: 8}, ProtocolHybridEx, true},
		{"standard security", Confirm{Negotiated: true}, ProtocolRDP, true},
		{"failure", Confirm{Negotiated: true, Failure: true, Value: FailureHybridRequired}, ProtocolRDP, false},
	} {
		b := tt.confirm.Append(nil)
		got, err := ParseConfirm(b)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if *got != tt.confirm {
			t.Errorf("%s: %+v became %+v", tt.name, tt.confirm, *got)
		}
		if p, ok := got.Selected(); p != tt.selected || ok != tt.ok {
			t.Errorf("%s: selected %s, %t", tt.name, p, ok)
		}
	}
}

func TestProtocolString(t *testing.T) {
	for p, want := range map[Protocol]string{
		ProtocolRDP: "RDP", 0x0a: "HYBRID+HYBRID_EX", 0x1f: "SSL+HYBRID+RDSTLS+HYBRID_EX+RDSAAD", 0x101: "SSL+0x100",
	} {
		if got := p.String(); got != want {
			t.Errorf("%#x: %s, want %s", uint32(p), got, want)
		}
	}
}

// checkSameFields parses b and compares it with r, but for Raw and the length indicator.
func checkSameFields(t *testing.T, r *Request, b []byte) {
	t.Helper()
	again, err := ParseRequest(b)
	if err != nil {
		t.Fatalf("%+v was written as %x: %v", r, b, err)
	}
	want := *r
	want.Raw, want.LengthMismatch = again.Raw, again.LengthMismatch
	if diff := cmp.Diff(&want, again); diff != "" {
		t.Errorf("written as %x: %s", b, diff)
	}
}
