// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/tomatome/grdp/glog"
)

// maxRedirects bounds a chain of Server Redirections.
const maxRedirects = 3

// silence turns off grdp's log, which is one for the whole process and writes
// the password into it. Without it grdp panics, as it has no logger.
var silence = sync.OnceFunc(func() { glog.SetLevel(glog.NONE) })

// Run probes as o says and reports what it found, always: what went wrong is in
// Result.Error. It returns when the desktop is reached, when the host has said
// no, when the timeout is over or when ctx ends. The session that it opens
// stays on the host, disconnected.
func Run(ctx context.Context, o Options) *Result {
	silence()
	start := time.Now()
	r := &Result{Addr: o.Addr, User: o.User, Domain: o.Domain, Logon: LogonUnknown, Stages: []StageTime{}}
	var err error
	if broken := contain("what the host sent", func() { err = run(ctx, o, r, start) }); broken != nil {
		err = broken // a caller that waits for JSON must not get a stack trace
	}
	r.Millis = millis(time.Since(start))
	r.Desktop = err == nil
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func run(ctx context.Context, o Options, r *Result, start time.Time) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	r.User, r.Domain = o.User, o.Domain
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()

	protocols := o.Security.protocols()
	for {
		r.Stages, r.Reached = []StageTime{}, ""
		s := &session{options: o, result: r, start: start}
		err := s.run(ctx, protocols)
		r.setScreen(s.screen)

		var redirected *redirectedError
		var failed *negotiationError
		switch {
		case errors.As(err, &redirected):
			if len(r.Redirects) == maxRedirects {
				return fmt.Errorf("the host redirected %d times", maxRedirects+1)
			}
			r.Redirects = append(r.Redirects, redirected.Redirect)
			o = o.redirected(redirected.Redirect)
		case errors.As(err, &failed) && o.Security == SecurityAuto && failed.wantsRDP():
			protocols = x224.ProtocolRDP
		default:
			return explain(ctx, err, r)
		}
	}
}

// redirected are the options for the next connection.
func (o Options) redirected(r Redirect) Options {
	if r.Address != "" {
		_, port, _ := net.SplitHostPort(o.Addr) // valid: see withDefaults
		if _, _, err := net.SplitHostPort(r.Address); err != nil {
			r.Address = net.JoinHostPort(r.Address, port)
		}
		o.Addr = r.Address
	}
	if r.Token != "" {
		o.Cookie = r.Token
	}
	if r.User != "" {
		o.User, o.Domain = r.User, r.Domain
	}
	o.redirectedSession = &r.SessionID
	return o
}

// explain puts the reason that the host gave, if any, before the error with
// which the connection ended.
func explain(ctx context.Context, err error, r *Result) error {
	if err == nil {
		return nil
	}
	if r.ErrorInfo != nil {
		return fmt.Errorf("the host ended the connection: %s", r.ErrorInfo)
	}
	if r.LogonNotice != nil && r.Logon == LogonRefused {
		return fmt.Errorf("the host did not log the user on: %s", r.LogonNotice)
	}
	if context.Cause(ctx) == context.Canceled {
		return context.Canceled
	}
	if isTimeout(err) {
		return fmt.Errorf("timeout %s: %w", after(r.Reached), err)
	}
	return err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

func after(s Stage) string {
	if s == "" {
		return "before the host answered"
	}
	return fmt.Sprintf("after stage %q", s)
}

// negotiationError is the host's refusal of what the probe offered.
type negotiationError struct{ code uint32 }

func (e *negotiationError) Error() string {
	return "the host refused the security that was offered: " + newCode(e.code, negotiationNames).String()
}

// wantsRDP says that standard RDP security would be taken.
func (e *negotiationError) wantsRDP() bool {
	return e.code == x224.FailureSSLNotAllowed || e.code == x224.FailureSSLNoCertificate
}

// negotiationNames are the failure codes of [MS-RDPBCGR] 2.2.1.2.2.
var negotiationNames = map[uint32]string{
	x224.FailureSSLRequired:      "SSL_REQUIRED_BY_SERVER",
	x224.FailureSSLNotAllowed:    "SSL_NOT_ALLOWED_BY_SERVER",
	x224.FailureSSLNoCertificate: "SSL_CERT_NOT_ON_SERVER",
	x224.FailureBadFlags:         "INCONSISTENT_FLAGS",
	x224.FailureHybridRequired:   "HYBRID_REQUIRED_BY_SERVER",
	x224.FailureSSLUserAuth:      "SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER",
}

// redirectedError says that the host sends the client elsewhere.
type redirectedError struct{ Redirect }

func (e *redirectedError) Error() string { return "the host redirected the client" }
