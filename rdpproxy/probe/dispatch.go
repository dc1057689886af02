// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"fmt"
	"time"
)

// take handles one packet of the host after the credentials were sent.
func (s *session) take(p packet) error {
	if p.fastPath {
		return s.takeFastPath(p)
	}
	d, err := parseIndication(p.data)
	if err != nil {
		return err
	}
	// Every message has to be opened, as each moves the cipher on.
	flags, data, err := s.channel.open(d.data)
	switch {
	case err != nil:
		return err
	case d.channel == s.channel.clip:
		s.loggedOn("clipboard")
		return nil
	case d.channel != s.channel.io:
		return nil
	case flags&secLicence != 0:
		return s.takeLicence(data)
	case flags&secRedirection != 0: // [MS-RDPBCGR] 2.2.13.2.1
		return s.takeRedirect(data)
	case s.channel.security == nil && !s.licensed && isLicence(data):
		// Licensing has a security header even under TLS.
		return s.takeLicence(data[4:])
	}
	all, err := splitShare(data)
	for _, m := range all {
		if err := s.takeShare(m); err != nil {
			return err
		}
	}
	return err
}

func (s *session) takeFastPath(p packet) error {
	data := p.data
	if p.flags&fastPathEncrypted != 0 {
		if s.channel.security == nil {
			return fmt.Errorf("an encrypted fast-path packet under %s", s.result.Protocol)
		}
		var err error
		if data, err = s.channel.security.open(data, p.flags&fastPathSalted != 0); err != nil {
			return err
		}
	}
	if s.screen == nil {
		return nil // left over from before the session was active
	}
	return s.paint(func() error { return s.fastPath.paint(s.screen, data) })
}

// paint runs f, which may paint on the screen, and notes whether it did.
func (s *session) paint(f func() error) error {
	before := s.screen.updates
	err := f()
	if s.screen.updates > before {
		s.lastPaint = time.Now()
		s.reach(StagePicture)
	}
	return err
}

// takeLicence answers one step of licensing.
func (s *session) takeLicence(b []byte) error {
	answer, done, err := s.licence.handle(b)
	if err != nil {
		return err
	}
	if done {
		s.licensed = true
		s.reach(StageLicence)
	}
	if answer == nil {
		return nil
	}
	return s.channel.sendFlagged(secLicence, answer)
}

func (s *session) takeShare(m sharePDU) error {
	switch m.kind {
	case shareDemandActive:
		return s.activate(m.body)
	case shareRedirection:
		return s.takeRedirect(cut(m.body, 2)) // pad2Octets
	case shareData:
		if m.compressed {
			return nil // not offered, so nothing that the probe needs comes so
		}
		return s.takeData(m)
	}
	return nil
}

func cut(b []byte, n int) []byte { return b[min(n, len(b)):] }

// activate answers a Demand Active. Hosts send another one to change the size
// of the desktop.
func (s *session) activate(b []byte) error {
	d, err := parseDemandActive(b)
	if err != nil {
		return err
	}
	if d.width == 0 || d.height == 0 {
		d.width, d.height = s.options.Width, s.options.Height
	}
	s.licensed = true // a host may leave licensing out
	s.reach(StageLicence)
	if s.screen == nil || d.width != s.share.width || d.height != s.share.height {
		s.screen = newScreen(d.width, d.height)
	}
	s.share, s.fastPath = d, fastPath{}

	if err := s.channel.sendShare(shareConfirmActive, confirmActive(s.options, d)); err != nil {
		return err
	}
	for _, body := range finalization(d) {
		if err := s.channel.sendShare(shareData, body); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) takeData(m sharePDU) error {
	in := cursor{b: m.body}
	switch m.data2 {
	case dataFontMap:
		if s.screen != nil {
			s.active = true
			s.reach(StageActive)
		}
	case dataUpdate:
		if s.screen == nil {
			return nil
		}
		return s.paint(func() error { return s.screen.slowPathUpdate(m.body) })
	case dataErrorInfo:
		if code := in.u32(); code != 0 {
			s.result.ErrorInfo = newCode(code, errorInfoNames)
		}
		return in.err()
	case dataSessionInfo:
		news, err := parseSessionInfo(m.body)
		if err != nil {
			return err
		}
		s.takeNews(news)
	}
	return nil
}

func (s *session) takeNews(n logonNews) {
	r := s.result
	if n.notice != nil {
		r.LogonNotice = n.notice
	}
	if n.session != nil {
		r.SessionID = n.session
	}
	if n.account != "" {
		r.Account = n.account
	}
	switch {
	case n.done:
		s.loggedOn("session-info")
	case n.refused:
		r.Logon = LogonRefused
	}
}

// loggedOn notes the first sign that the user is logged on.
func (s *session) loggedOn(by string) {
	if s.result.Logon == LogonDone {
		return
	}
	s.loggedOnAt = time.Now()
	s.result.Logon, s.result.LogonBy = LogonDone, by
	s.reach(StageLogon)
}

func (s *session) takeRedirect(b []byte) error {
	r, ok, err := parseRedirect(b)
	if err != nil || !ok {
		return err
	}
	return &redirectedError{Redirect: r}
}
