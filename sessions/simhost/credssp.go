package simhost

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/rdpserver"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// NLA is whether a host wants to know the password before RDP begins: network
// level authentication, CredSSP inside TLS.
type NLA int

const (
	// NLAOff: TLS only; the password, if one is wanted, is checked at the logon.
	NLAOff NLA = iota
	// NLAHybrid: CredSSP as in [MS-RDPBCGR] 5.4.5.2, PROTOCOL_HYBRID. The result
	// shows in that MCS goes on.
	NLAHybrid
	// NLAHybridEx: PROTOCOL_HYBRID_EX with clients that offer it, which are told at
	// once whether they may log on; PROTOCOL_HYBRID with others.
	NLAHybridEx
)

// security is what h's RDP server offers, the preferred first; nil is plain TLS.
func (h *Host) security() []rdpserver.Security {
	switch h.cfg.RDP.NLA {
	case NLAHybrid:
		return []rdpserver.Security{credSSP{h, x224.ProtocolHybrid}}
	case NLAHybridEx:
		return []rdpserver.Security{credSSP{h, x224.ProtocolHybridEx}, credSSP{h, x224.ProtocolHybrid}}
	}
	return nil
}

// credSSP is the server's side of [MS-CSSP] 3.1.5 with NTLM, which clients send
// as it is where they know no Kerberos realm (FreeRDP 2, and mstsc to such a
// host). SPNEGO around it is not understood.
type credSSP struct {
	host     *Host
	protocol x224.Protocol
}

func (s credSSP) Protocol() x224.Protocol { return s.protocol }

// proven is a connection whose client has shown a password.
type proven struct {
	net.Conn
	account sessions.Account
}

// Authenticated implements rdpserver.Authenticated.
func (p proven) Authenticated() (domain, user string) { return p.account.Domain, p.account.User }

// Versions of CredSSP: the newest that the host speaks, the first that binds to
// the TLS key by a hash with a nonce, and those that know error codes,
// [MS-CSSP] 2.2.1.
const (
	credSSPVersion      = 6
	credSSPNonceVersion = 5
)

func knowsErrorCodes(version int) bool { return version >= 3 && version != 5 }

// statusLogonFailure is STATUS_LOGON_FAILURE, as the negative number that
// TSRequest has for it.
const statusLogonFailure = 0xc000006d - 1<<32

// Secure implements rdpserver.Security.
func (s credSSP) Secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	key, err := subjectPublicKey(s.host.tls)
	if err != nil {
		return nil, err
	}
	cfg := s.host.tls.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.SessionTicketsDisabled = true // [MS-CSSP] 3.1.5: nobody resumes
	secured := tls.Server(c, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	x := &credSSPExchange{conn: secured, key: key, machine: s.host.cfg.Name, now: s.host.model.HostTime(), password: s.host.password}
	x.wrongPassword = func() {
		remote, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		s.host.model.passwordRefused(s.host.account(x.domain, x.user), remote.Addr().Unmap())
	}
	if err := x.run(); err != nil {
		_ = secured.Close() // with an alert; the client knows what it means
		return nil, fmt.Errorf("CredSSP: %w", err)
	}
	if s.protocol == x224.ProtocolHybridEx {
		// The Early User Authorization Result, [MS-RDPBCGR] 2.2.10.2: AUTHZ_SUCCESS.
		if _, err := secured.Write(make([]byte, 4)); err != nil {
			return nil, fmt.Errorf("early user authorization result: %w", err)
		}
	}
	return proven{secured, s.host.account(x.domain, x.user)}, nil
}

// password is what CredSSP compares with; ok is false for who has none.
func (h *Host) password(domain, user string) (pw string, ok bool) {
	if h.cfg.RDP.Password == nil || user == "" {
		return "", false
	}
	return h.cfg.RDP.Password(h.account(domain, user))
}

// tsRequest is a TSRequest, [MS-CSSP] 2.2.1.
type tsRequest struct {
	Version     int         `asn1:"explicit,tag:0"`
	NegoTokens  []negoToken `asn1:"optional,omitempty,explicit,tag:1"`
	AuthInfo    []byte      `asn1:"optional,omitempty,explicit,tag:2"`
	PubKeyAuth  []byte      `asn1:"optional,omitempty,explicit,tag:3"`
	ErrorCode   int64       `asn1:"optional,explicit,tag:4"`
	ClientNonce []byte      `asn1:"optional,omitempty,explicit,tag:5"`
}

type negoToken struct {
	Token []byte `asn1:"explicit,tag:0"`
}

// tsCredentials and tsPasswordCreds are [MS-CSSP] 2.2.1.2 and 2.2.1.2.1. The
// strings are UTF-16LE.
type tsCredentials struct {
	Type        int    `asn1:"explicit,tag:0"` // 1: password
	Credentials []byte `asn1:"explicit,tag:1"`
}

type tsPasswordCreds struct {
	Domain   []byte `asn1:"explicit,tag:0"`
	User     []byte `asn1:"explicit,tag:1"`
	Password []byte `asn1:"explicit,tag:2"`
}

// credSSPExchange is CredSSP with one client.
type credSSPExchange struct {
	conn     io.ReadWriter
	key      []byte // the certificate's SubjectPublicKey
	machine  string
	now      time.Time
	password func(domain, user string) (string, bool)

	// wrongPassword, if set, is told before the client is: like Windows, the host
	// has written its event by the time that the client knows.
	wrongPassword func()

	version      int // what both sides speak
	domain, user string
}

// run asks the client for its password. errNTLMPassword is among the causes of an
// error if there was a wrong one.
func (x *credSSPExchange) run() error {
	hello, err := x.receive()
	if err != nil {
		return err
	}
	if x.version = min(hello.Version, credSSPVersion); x.version < 2 {
		return fmt.Errorf("version %d", hello.Version)
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	challenge, err := newNTLMChallenge(hello.token(), x.machine, nonce, x.now)
	if err != nil {
		return err
	}
	if err := x.send(tsRequest{NegoTokens: []negoToken{{challenge.challenge}}}); err != nil {
		return err
	}
	answer, err := x.receive()
	if err != nil {
		return err
	}
	session, err := challenge.verify(answer.token(), nil, func(domain, user string) (string, bool) {
		x.domain, x.user = domain, user
		return x.password(domain, user)
	})
	if err != nil {
		return x.refuse(x.noted(err))
	}
	sealed := newSealer(session)
	if sealed == nil {
		return errors.New("the client does not seal by NTLM")
	}
	if err := x.bind(sealed, answer); err != nil {
		return x.refuse(err)
	}
	return x.noted(x.takeCredentials(sealed))
}

// bind makes sure that nobody sits between the client and this TLS key, and shows
// the client the same.
func (x *credSSPExchange) bind(sealed *sealer, answer *tsRequest) error {
	theirs, err := sealed.unwrap(answer.PubKeyAuth)
	if err != nil {
		return fmt.Errorf("the client's view of the TLS key: %w", err)
	}
	want, ours := x.key, bytes.Clone(x.key)
	ours[0]++
	if x.version >= credSSPNonceVersion {
		want = bindingHash("Client-To-Server", answer.ClientNonce, x.key)
		ours = bindingHash("Server-To-Client", answer.ClientNonce, x.key)
	}
	if subtle.ConstantTimeCompare(theirs, want) != 1 {
		return errors.New("the client has seen another TLS key")
	}
	return x.send(tsRequest{PubKeyAuth: sealed.wrap(ours)})
}

// takeCredentials reads what the session is to log on with. Windows would take any
// that are right; this host wants those of the account that has shown itself.
func (x *credSSPExchange) takeCredentials(sealed *sealer) error {
	last, err := x.receive()
	if err != nil {
		return err
	}
	plain, err := sealed.unwrap(last.AuthInfo)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	defer clear(plain)
	var outer tsCredentials
	var creds tsPasswordCreds
	if _, err := asn1.Unmarshal(plain, &outer); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if outer.Type != 1 {
		return fmt.Errorf("credentials of type %d", outer.Type)
	}
	if _, err := asn1.Unmarshal(outer.Credentials, &creds); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if pw, ok := x.password(x.domain, x.user); !ok || pw != utf16String(creds.Password) || utf16String(creds.User) != x.user {
		return fmt.Errorf("other credentials than those that were shown: %w", errNTLMPassword)
	}
	return nil
}

// noted has wrongPassword told, if that is what err says, and returns err.
func (x *credSSPExchange) noted(err error) error {
	if errors.Is(err, errNTLMPassword) && x.wrongPassword != nil {
		x.wrongPassword()
	}
	return err
}

// refuse tells the client that it is not let in, if its version can be told.
func (x *credSSPExchange) refuse(why error) error {
	if knowsErrorCodes(x.version) {
		return errors.Join(why, x.send(tsRequest{ErrorCode: statusLogonFailure}))
	}
	return why
}

// send writes a request at once: clients want it in one TLS record.
func (x *credSSPExchange) send(r tsRequest) error {
	r.Version = credSSPVersion
	b, err := asn1.Marshal(r)
	if err != nil {
		return err
	}
	_, err = x.conn.Write(b)
	return err
}

// maxTSRequest is far above what NTLM needs.
const maxTSRequest = 16 << 10

// receive reads one request and no byte more: MCS comes right behind the last.
func (x *credSSPExchange) receive() (*tsRequest, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(x.conn, head[:2]); err != nil {
		return nil, err
	}
	size := 2
	length := int(head[1])
	if more := length - 0x80; more > 0 && more <= 2 {
		size += more
		if _, err := io.ReadFull(x.conn, head[2:size]); err != nil {
			return nil, err
		}
		length = 0
		for _, b := range head[2:size] {
			length = length<<8 | int(b)
		}
	} else if length >= 0x80 {
		return nil, fmt.Errorf("a TSRequest with a length of the form %#x", head[1])
	}
	if head[0] != 0x30 || length > maxTSRequest {
		return nil, fmt.Errorf("no TSRequest (tag %#x, %d bytes)", head[0], length)
	}
	b := append(head[:size:size], make([]byte, length)...)
	if _, err := io.ReadFull(x.conn, b[size:]); err != nil {
		return nil, err
	}
	var r tsRequest
	if rest, err := asn1.Unmarshal(b, &r); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("TSRequest: %w", errors.Join(err, errRest(rest)))
	}
	return &r, nil
}

func errRest(rest []byte) error {
	if len(rest) == 0 {
		return nil
	}
	return fmt.Errorf("%d bytes behind it", len(rest))
}

// token is the first of r's NTLM messages; nil if it has none.
func (r *tsRequest) token() []byte {
	if len(r.NegoTokens) == 0 {
		return nil
	}
	return r.NegoTokens[0].Token
}

func bindingHash(direction string, nonce, key []byte) []byte {
	h := sha256.New()
	h.Write([]byte("CredSSP " + direction + " Binding Hash\x00"))
	h.Write(nonce)
	h.Write(key)
	return h.Sum(nil)
}

// subjectPublicKey is the BIT STRING within the SubjectPublicKeyInfo of the
// server's certificate, which is what CredSSP binds to.
func subjectPublicKey(cfg *tls.Config) ([]byte, error) {
	if len(cfg.Certificates) == 0 || cfg.Certificates[0].Leaf == nil {
		return nil, errors.New("CredSSP needs a certificate that is known beforehand")
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cfg.Certificates[0].Leaf.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil, fmt.Errorf("the public key of the certificate: %w", err)
	}
	return info.Key.Bytes, nil
}
