// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/tomatome/grdp/protocol/nla"
)

// session is one connection from the dial to its end. It is used once.
type session struct {
	options Options
	result  *Result
	start   time.Time

	wire *wire
	// windows says that the host is a Windows: it always tells when a user is
	// logged on, so that credentials accepted by CredSSP are not yet a logon.
	windows  bool
	channel  *channel
	licence  *licenceClient
	licensed bool
	active   bool
	share    demandActive
	screen   *screen
	fastPath fastPath

	// lastPaint, loggedOnAt and doneAt are when the screen changed last, when the
	// host said that the user is logged on, and when the probe had come to its
	// end but for a better picture. Zero: not yet.
	lastPaint, loggedOnAt, doneAt time.Time
}

// run walks the connection sequence. It returns nil when the desktop is reached.
func (s *session) run(ctx context.Context, offer x224.Protocol) error {
	w, err := dialWire(ctx, s.options.Addr)
	if err != nil {
		return err
	}
	defer w.Close()
	s.wire = w
	s.reach(StageTCP)

	selected, err := s.negotiate(offer)
	if err != nil {
		return err
	}
	if err := s.secure(ctx, selected); err != nil {
		return err
	}
	if err := s.connect(selected); err != nil {
		return err
	}
	err = s.follow(ctx)
	if err == nil {
		// The picture is there; how the host takes the farewell does not matter.
		_ = s.channel.disconnect()
	}
	return err
}

func (s *session) reach(stage Stage) { s.result.reach(stage, s.start) }

// windowsReference is the source reference in a Connection Confirm of Windows.
// xrdp sends it as well, but never selects CredSSP.
const windowsReference = 0x1234

func (s *session) negotiate(offer x224.Protocol) (x224.Protocol, error) {
	confirm, err := s.wire.negotiate(s.options.request(offer))
	if err != nil {
		return 0, err
	}
	if confirm.Failure {
		return 0, &negotiationError{code: confirm.Value}
	}
	selected, _ := confirm.Selected()
	nla := selected == x224.ProtocolHybrid || selected == x224.ProtocolHybridEx
	s.windows = nla && confirm.SrcRef == windowsReference
	s.result.Protocol = selected.String()
	s.reach(StageX224)

	switch {
	case selected != x224.ProtocolRDP && selected&offer != selected:
		return 0, fmt.Errorf("the host chose %s, which was not offered", selected)
	case s.options.Security == SecurityNLA && !nla:
		return 0, fmt.Errorf("the host chose %s instead of network level authentication", selected)
	case s.options.Security == SecurityTLS && selected == x224.ProtocolRDP:
		return 0, errors.New("the host chose standard RDP security instead of TLS")
	}
	return selected, nil
}

// secure does what the selected protocol asks for before RDP begins.
func (s *session) secure(ctx context.Context, selected x224.Protocol) error {
	if selected == x224.ProtocolRDP {
		return nil
	}
	agreed, certificate, err := s.wire.startTLS(ctx, s.options.ServerName)
	if err != nil {
		return err
	}
	s.result.TLS = agreed
	s.reach(StageTLS)
	if selected == x224.ProtocolSSL {
		return nil
	}

	o := s.options
	handshake := credSSP{conn: s.wire, ntlm: nla.NewNTLMv2(o.Domain, o.User, o.Password), certificate: certificate}
	if err := handshake.run(); err != nil {
		var refusal *refusedError
		if errors.As(err, &refusal) {
			s.result.Logon, s.result.NLAStatus = LogonRefused, refusal.status
		}
		return fmt.Errorf("NLA: %w", err)
	}
	if selected == x224.ProtocolHybridEx {
		if err := s.earlyAuthorization(); err != nil {
			return err
		}
	}
	s.result.Logon, s.result.LogonBy = LogonAccepted, "credssp"
	s.reach(StageNLA)
	return nil
}

// earlyAuthorization reads an Early User Authorization Result, [MS-RDPBCGR] 2.2.10.2.
func (s *session) earlyAuthorization() error {
	var b [4]byte
	if _, err := io.ReadFull(s.wire, b[:]); err != nil {
		return fmt.Errorf("NLA: the host's authorization: %w", err)
	}
	if v := binary.LittleEndian.Uint32(b[:]); v != 0 {
		s.result.Logon = LogonRefused
		return fmt.Errorf("NLA: the password is right, but the user may not log on to the host remotely (authorization result %d)", v)
	}
	return nil
}

// connect does the MCS part, the security exchange, and sends the credentials.
func (s *session) connect(selected x224.Protocol) error {
	m, data, err := joinMCS(s.wire, s.options, uint32(selected))
	if err != nil {
		return err
	}
	s.channel = &channel{mcs: m}
	s.reach(StageMCS)

	var certificate *rsaKey
	if data.encryptionMethod != 0 {
		if certificate, err = s.exchangeKeys(data); err != nil {
			return err
		}
	}
	if s.licence, err = newLicenceClient(s.options, certificate); err != nil {
		return err
	}
	return s.channel.sendFlagged(secInfo, clientInfo(s.options))
}

// exchangeKeys starts standard RDP security, [MS-RDPBCGR] 5.3.4.
func (s *session) exchangeKeys(data *serverData) (*rsaKey, error) {
	certificate, err := parseServerCertificate(data.certificate)
	if err != nil {
		return nil, err
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	security, err := newStandardSecurity(data.encryptionMethod, random, data.random)
	if err != nil {
		return nil, err
	}
	encrypted := certificate.encrypt(random)
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(encrypted)))
	s.channel.security = security
	return certificate, s.channel.sendFlagged(secExchange, append(body, encrypted...))
}

// follow reads what the host sends until there is a desktop, for as long as the
// picture settles, or until the connection ends.
func (s *session) follow(ctx context.Context) error {
	for {
		p, err := s.wire.readPacket()
		if err == nil {
			err = s.take(p)
		}
		if err != nil {
			return s.verdict(err)
		}
		settled, err := s.settle(ctx)
		if err != nil {
			return err
		}
		if settled {
			return s.verdict(nil)
		}
	}
}

// settle looks whether the probe has come to an end, and if so, gives the
// picture time to settle: what was painted before the logon is not the desktop,
// and a refusal's screen is worth seeing too. It says when that is over.
func (s *session) settle(ctx context.Context) (bool, error) {
	if s.doneAt.IsZero() {
		if !s.active || s.lastPaint.IsZero() || !s.certain() {
			return false, nil
		}
		s.doneAt = time.Now()
	}
	if s.options.Settle < 0 {
		return true, nil
	}
	until := s.doneAt.Add(4 * s.options.Settle) // some desktops are never quiet
	if quiet := s.lastPaint.Add(s.options.Settle); !s.lastPaint.Before(s.loggedOnAt) && quiet.Before(until) {
		until = quiet
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	if err := s.wire.readUntil(until); err != nil {
		return false, err
	}
	// readUntil may have undone what the end of the context did.
	return !time.Now().Before(until), ctx.Err()
}

// certain says whether the logon is as certain as this host can make it.
func (s *session) certain() bool {
	switch s.result.Logon {
	case LogonDone, LogonRefused:
		return true
	case LogonAccepted:
		return !s.windows || s.options.AcceptUnconfirmed
	}
	return s.options.AcceptUnconfirmed
}

// verdict is the outcome of a connection that ended with err, nil if the probe
// ends it.
func (s *session) verdict(err error) error {
	switch {
	case s.result.Logon == LogonRefused:
		return errors.New("the host did not log the user on")
	case !s.doneAt.IsZero() && (err == nil || isTimeout(err)):
		return nil // the wait for a quiet screen ended
	case !s.doneAt.IsZero():
		return fmt.Errorf("the desktop was there, but then: %w", err)
	case !s.lastPaint.IsZero() && isTimeout(err):
		return fmt.Errorf("there is a picture, but the host has not said that the user is logged on: it may be a logon screen or a message: %w", err)
	}
	return err
}
