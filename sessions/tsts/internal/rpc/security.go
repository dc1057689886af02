package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
)

// Auth says how a connection is authenticated. Packet privacy is always asked for.
type Auth struct {
	// Mechanism is ssp.NTLM or ssp.KRB5.
	Mechanism gssapi.MechanismFactory
	// Options are the credential and, if need be, the mechanism's configuration.
	Options []gssapi.ContextOption
	// TargetName is the service principal name, "host/name".
	TargetName string
}

// Authentication types, [MS-RPCE] 2.2.1.1.7.
const (
	authNTLM     = 0x0A
	authKerberos = 0x10
)

// security is one established (or half established) security context.
type security struct {
	ctx        context.Context // holds the provider's state, as gssapi wants it
	opts       []gssapi.Option
	authType   byte
	headerSign bool
}

func newSecurity(a Auth) *security {
	mech := a.Mechanism.Type()
	s := &security{authType: authNTLM}
	if mech.Equal(ssp.MechanismTypeKRB5) {
		s.authType = authKerberos
	}
	s.ctx = gssapi.NewSecurityContext(context.Background(), append([]gssapi.ContextOption{a.Mechanism}, a.Options...)...)
	s.opts = []gssapi.Option{
		gssapi.WithMechanismType(mech),
		gssapi.WithTargetName(a.TargetName),
		gssapi.WithRequest(gssapi.Confidentiality | gssapi.Integrity | gssapi.ReplayDetection | gssapi.Sequencing),
	}
	if s.authType == authKerberos {
		s.opts = append(s.opts, gssapi.WithRequest(gssapi.DCEStyle|gssapi.MutualAuthn))
	}
	return s
}

// step turns the server's token into our next one; nil begins.
func (s *security) step(token []byte) ([]byte, error) {
	if token != nil && s.authType == authNTLM {
		if err := checkChallenge(token); err != nil {
			return nil, err
		}
	}
	out, err := gssapi.InitSecurityContext(s.ctx, &gssapi.Token{Payload: token}, s.opts...)
	if err != nil {
		return nil, err
	}
	return out.Payload, nil
}

// done reports whether calls can be sealed.
func (s *security) done() bool { return gssapi.IsComplete(s.ctx) }

// The flags without which an NTLM session is not sealed as it should be, [MS-NLMP] 2.2.2.5:
// SIGN, SEAL, EXTENDED_SESSIONSECURITY, 128, KEY_EXCH. Every Windows since 2000 agrees to them.
const ntlmFlags = 0x00000010 | 0x00000020 | 0x00080000 | 0x20000000 | 0x40000000

// checkChallenge refuses a challenge by which somebody would weaken the session.
func checkChallenge(token []byte) error {
	if len(token) < 32 || !bytes.HasPrefix(token, []byte("NTLMSSP\x00\x02\x00\x00\x00")) {
		return errors.New("no NTLM challenge")
	}
	if flags := le.Uint32(token[20:]); flags&ntlmFlags != ntlmFlags {
		return fmt.Errorf("the NTLM challenge does not agree to sealing (flags 0x%08X)", flags)
	}
	return nil
}

// tokenSize is the length of the signature of each packet.
func (s *security) tokenSize() int { return -gssapi.WrapSizeLimit(s.ctx, 0, s.opts...) }

// parts are the ranges of a packet as the providers want them: all is signed if
// both sides sign headers (NTLM signs all regardless), the stub is sealed.
func (s *security) parts(pkt []byte, stubEnd int) []*gssapi.PayloadEx {
	signed := gssapi.Cap(0)
	if s.headerSign {
		signed = gssapi.Integrity
	}
	return []*gssapi.PayloadEx{
		{Payload: pkt[:callSize], Capabilities: signed},
		{Payload: pkt[callSize:stubEnd], Capabilities: gssapi.Integrity | gssapi.Confidentiality},
		{Payload: pkt[stubEnd : stubEnd+trailerSize], Capabilities: signed},
	}
}

// seal seals a packet, stub ending at stubEnd, in place and writes its signature
// behind the trailer.
func (s *security) seal(pkt []byte, stubEnd int) error {
	out, err := gssapi.WrapEx(s.ctx, &gssapi.MessageTokenEx{Payloads: s.parts(pkt, stubEnd)})
	if err != nil {
		return err
	}
	if len(out.Signature) != len(pkt)-stubEnd-trailerSize {
		return fmt.Errorf("a signature of %d bytes where %d were expected", len(out.Signature), len(pkt)-stubEnd-trailerSize)
	}
	copy(pkt[stubEnd+trailerSize:], out.Signature)
	return nil
}

// open unseals a packet in place. It is an error if the signature is not right.
func (s *security) open(pkt []byte, stubEnd int) error {
	got := bytes.Clone(pkt[stubEnd+trailerSize:])
	out, err := gssapi.UnwrapEx(s.ctx, &gssapi.MessageTokenEx{Payloads: s.parts(pkt, stubEnd), Signature: got})
	if err != nil {
		return err
	}
	// The Kerberos provider compares by itself; that of NTLM returns the
	// signature that it expects and leaves it at that.
	if !bytes.Equal(out.Signature, got) {
		return errors.New("the signature of the answer is wrong")
	}
	return nil
}
