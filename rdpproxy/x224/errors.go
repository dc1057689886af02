package x224

import "fmt"

// Kind says in one short word why bytes are no RDP opening. The list is closed,
// so that a kind can be a metric label.
type Kind string

// All kinds.
const (
	KindTLS         Kind = "tls"          // a TLS handshake record: the peer skipped the negotiation
	KindHTTP        Kind = "http"         // an HTTP request
	KindSSH         Kind = "ssh"          // an SSH banner
	KindSOCKS       Kind = "socks"        // a SOCKS greeting
	KindProxyHeader Kind = "proxy-header" // a PROXY protocol header where none was expected
	KindNotTPKT     Kind = "not-tpkt"     // neither TPKT nor anything above
	KindTooShort    Kind = "too-short"    // the TPKT length leaves no room for the headers that must follow
	KindTooLong     Kind = "too-long"     // the TPKT length is above the limit
	KindBadLength   Kind = "bad-length"   // a buffer that is not exactly one TPKT packet
	KindBadBlob     Kind = "bad-blob"     // a preconnection blob that breaks [MS-RDPEPS] 2.2.1
	KindNotCR       Kind = "not-cr"       // a TPKT packet, but no class 0 X.224 Connection Request
	KindNotCC       Kind = "not-cc"       // a TPKT packet, but no well-formed X.224 Connection Confirm
)

// Kinds returns all kinds, for counters that want to start at zero.
func Kinds() []Kind {
	return []Kind{
		KindTLS, KindHTTP, KindSSH, KindSOCKS, KindProxyHeader, KindNotTPKT,
		KindTooShort, KindTooLong, KindBadLength, KindBadBlob, KindNotCR, KindNotCC,
	}
}

// FormatError says that the peer's bytes are not what they should be.
type FormatError struct {
	Kind Kind
	// Detail is for people. It holds numbers only, never the peer's text.
	Detail string
}

func (e *FormatError) Error() string { return fmt.Sprintf("%s: %s", e.Kind, e.Detail) }

func malformed(k Kind, format string, args ...any) error {
	return &FormatError{Kind: k, Detail: fmt.Sprintf(format, args...)}
}
