// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"image"
	"math"
	"time"
)

// Stage is a step of the way to a desktop.
type Stage string

// All stages, in the order in which they are reached. StageTLS and StageNLA are
// left out where the host chooses otherwise; StageLogon may come before
// StagePicture.
const (
	StageTCP     Stage = "tcp"     // connected
	StageX224    Stage = "x224"    // the host has chosen a security protocol
	StageTLS     Stage = "tls"     // encrypted
	StageNLA     Stage = "nla"     // the host has accepted the credentials before the session
	StageMCS     Stage = "mcs"     // channels joined
	StageLicence Stage = "licence" // the host is content with the client's licence
	StageActive  Stage = "active"  // capabilities exchanged: the session is connected
	StagePicture Stage = "picture" // the first bitmap was painted
	StageLogon   Stage = "logon"   // the host has said that the user is logged on
)

// StageTime says when a stage was reached.
type StageTime struct {
	Stage Stage `json:"stage"`
	// Millis are milliseconds since the start of the probe.
	Millis float64 `json:"ms"`
}

// Logon is what is known of the credentials.
type Logon string

// All values of Logon.
const (
	// LogonUnknown: the host has said nothing, or the probe did not come so far.
	LogonUnknown Logon = "unknown"
	// LogonRefused: the host does not take the credentials, or will not open a
	// session for them.
	LogonRefused Logon = "refused"
	// LogonAccepted: the host has verified the password (CredSSP), and has said
	// nothing of a session.
	LogonAccepted Logon = "accepted"
	// LogonDone: the user is logged on. Windows says so in a Save Session Info
	// PDU; on other hosts the clipboard channel has come to life, which a program
	// in the user's session does.
	LogonDone Logon = "done"
)

// Result is what a probe found out. It can be marshalled to JSON.
type Result struct {
	Addr   string `json:"addr"`
	User   string `json:"user"`
	Domain string `json:"domain,omitempty"`

	// Desktop says that the probe succeeded: the user is logged on and there is a picture.
	Desktop bool `json:"desktop"`
	// Error says why not, in a sentence; empty if Desktop.
	Error string `json:"error,omitempty"`

	// Reached is the last of Stages; empty if there was no connection.
	Reached Stage       `json:"reached,omitempty"`
	Stages  []StageTime `json:"stages"`
	// Millis is how long the probe took, the wait for a better picture included.
	Millis float64 `json:"ms"`

	// Protocol is what the host chose: "RDP", "SSL", "HYBRID" or "HYBRID_EX".
	Protocol string `json:"protocol,omitempty"`
	TLS      *TLS   `json:"tls,omitempty"`

	Logon Logon `json:"logon"`
	// LogonBy is how the host confirmed it: "credssp", "session-info" or "clipboard".
	LogonBy string `json:"logon_by,omitempty"`
	// SessionID, Account are from the host's confirmation. They name the session
	// that the probe has opened, or taken up, and leaves behind disconnected.
	SessionID *uint32 `json:"session_id,omitempty"`
	Account   string  `json:"account,omitempty"`

	// NLAStatus is the NTSTATUS with which the host refused the credentials.
	NLAStatus *Code `json:"nla_status,omitempty"`
	// LogonNotice is what the host's logon screen is about, for example
	// LOGON_MSG_BUMP_OPTIONS: too many users, choose whom to throw out.
	LogonNotice *Code `json:"logon_notice,omitempty"`
	// ErrorInfo is why the host ended the connection.
	ErrorInfo *Code `json:"error_info,omitempty"`
	// Redirects are the Server Redirections that were followed.
	Redirects []Redirect `json:"redirects,omitempty"`

	Screen *Screen `json:"screen,omitempty"`
	// Picture is the screen at the end; nil if the session never became active.
	Picture image.Image `json:"-"`
}

// TLS is what was agreed on, and the SHA-256 of the host's certificate.
type TLS struct {
	Version string `json:"version"`
	Cipher  string `json:"cipher"`
	SHA256  string `json:"sha256"`
}

// Screen describes Picture.
type Screen struct {
	Width   int `json:"width"`
	Height  int `json:"height"`
	Updates int `json:"updates"`
	// Coverage is the painted part, 0 to 1.
	Coverage float64 `json:"coverage"`
	// Colors is the number of different colours, at most 1000: 1 is a blank screen.
	Colors int `json:"colors"`
	// Undecoded counts rectangles in a coding that the probe cannot read; Fault
	// is about the first of them.
	Undecoded int    `json:"undecoded,omitempty"`
	Fault     string `json:"fault,omitempty"`
}

func (r *Result) reach(s Stage, start time.Time) {
	for _, t := range r.Stages {
		if t.Stage == s {
			return
		}
	}
	r.Stages = append(r.Stages, StageTime{Stage: s, Millis: millis(time.Since(start))})
	r.Reached = s
}

func millis(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

func (r *Result) setScreen(s *screen) {
	if s == nil {
		return
	}
	r.Picture = s.img
	r.Screen = &Screen{
		Width: s.img.Rect.Dx(), Height: s.img.Rect.Dy(), Updates: s.updates,
		Coverage: math.Round(s.coverage()*1000) / 1000, Colors: s.colors(1000), Undecoded: s.faults,
	}
	if s.fault != nil {
		r.Screen.Fault = s.fault.Error()
	}
}
