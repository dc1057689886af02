package reach

import "time"

// Result is what a host answered. It is plain data.
type Result struct {
	Addr string    `json:"addr"`
	Time time.Time `json:"time"` // Options.Now
	// Remote is the address that Addr led to; empty if there was no connection.
	Remote string `json:"remote,omitempty"`
	// ConnectMillis is how long the first TCP connection took.
	ConnectMillis float64 `json:"connect_ms"`
	// ConnectError is why there was none.
	ConnectError string `json:"connect_error,omitempty"`
	// Answers are in the order of the offers: the best that clients offer first.
	Answers []Answer `json:"answers,omitempty"`
	// TLS is nil if the host never chose TLS.
	TLS *TLS `json:"tls,omitempty"`
	// Names are those of Options.Names; empty without a certificate.
	Names []Name `json:"names,omitempty"`
}

// Offer is a kind of client, by what it can do at most.
type Offer string

// The offers.
const (
	OfferHybridEx Offer = "HYBRID_EX" // mstsc: SSL, HYBRID and HYBRID_EX
	OfferHybrid   Offer = "HYBRID"    // FreeRDP and thin clients built on it: SSL and HYBRID
	OfferSSL      Offer = "SSL"       // TLS without network level authentication
	OfferRDP      Offer = "RDP"       // standard RDP security only
)

// Answer is the host's answer to one offer. Of Selected, Failure and Error
// exactly one is set.
type Answer struct {
	Offer Offer `json:"offer"`
	// Millis is how long the answer took, the connection not counted.
	Millis float64 `json:"ms"`
	// Selected is the protocol that the host chose: "RDP", "SSL", "HYBRID" or "HYBRID_EX".
	Selected string `json:"selected,omitempty"`
	// Flags are the host's abilities, as [MS-RDPBCGR] 2.2.1.2.1 names them.
	Flags []string `json:"flags,omitempty"`
	// Failure is the host's refusal.
	Failure *Failure `json:"failure,omitempty"`
	// Error is what went wrong before there was an answer.
	Error string `json:"error,omitempty"`
}

// Failure is a failureCode of [MS-RDPBCGR] 2.2.1.2.2.
type Failure struct {
	Code uint32 `json:"code"`
	Name string `json:"name"` // the code in decimal if it has no name
}

// TLS is the outcome of one TLS handshake. If Error is set, the rest may be empty.
type TLS struct {
	Error   string `json:"error,omitempty"`
	Version string `json:"version,omitempty"` // "TLS 1.2"
	Cipher  string `json:"cipher,omitempty"`
	// Outdated says that Version or Cipher should not be used any more.
	Outdated bool `json:"outdated,omitempty"`
	// Chain is as the host sent it, its own certificate first.
	Chain []Certificate `json:"chain,omitempty"`
}

// Certificate is one link of a chain.
type Certificate struct {
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	// CommonName counts as a name if there is no DNS name, as it does for mstsc.
	CommonName string    `json:"common_name,omitempty"`
	DNSNames   []string  `json:"dns_names,omitempty"`
	Addresses  []string  `json:"ip_addresses,omitempty"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	// SelfSigned says that subject and issuer are the same; the signature is not verified.
	SelfSigned bool   `json:"self_signed"`
	SHA256     string `json:"sha256"` // hexadecimal
	Key        string `json:"key"`    // "RSA 2048"
	Signature  string `json:"signature"`
	// Weak says that key or signature is of a kind that clients begin to refuse.
	Weak bool `json:"weak,omitempty"`
}

// Name says whether the host's certificate carries a name.
type Name struct {
	Name    string `json:"name"`
	Covered bool   `json:"covered"`
}

func millis(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}
