// SPDX-License-Identifier: GPL-3.0-only

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"strings"

	"github.com/rdpbroker/rdpbroker/rdpproxy/probe"
)

// screenshot writes the picture, if one was asked for and there is one.
func (c command) screenshot(r *probe.Result) error {
	if c.picture == "" {
		return nil
	}
	if r.Picture == nil {
		return errors.New("no screenshot: the host sent no picture")
	}
	f, err := os.Create(c.picture)
	if err != nil {
		return err
	}
	if err := png.Encode(f, r.Picture); err != nil {
		f.Close()
		return fmt.Errorf("screenshot: %w", err)
	}
	return f.Close()
}

// print writes the result as JSON or for people.
func (c command) print(r *probe.Result, w io.Writer) error {
	if c.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err := io.WriteString(w, describe(r))
	return err
}

// describe says in a few lines how far the probe came.
func describe(r *probe.Result) string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", label, fmt.Sprintf(format, args...))
	}
	verdict := "no desktop"
	if r.Desktop {
		verdict = "desktop reached"
	}
	line("result", "%s for %q at %s after %.0f ms", verdict, accountName(r), r.Addr, r.Millis)
	if r.Error != "" {
		line("why", "%s", r.Error)
	}
	if r.Protocol != "" {
		line("security", "%s", r.Protocol)
	}
	if t := r.TLS; t != nil {
		line("tls", "%s, %s, certificate SHA-256 %s", t.Version, t.Cipher, t.SHA256)
	}
	if len(r.Stages) > 0 {
		line("stages", "%s", stages(r.Stages))
	}
	line("logon", "%s", logon(r))
	for _, d := range r.Redirects {
		line("redirect", "address %q, token %q", d.Address, d.Token)
	}
	if s := r.Screen; s != nil {
		line("screen", "%d x %d, %d updates, %.0f %% painted, %s", s.Width, s.Height, s.Updates, 100*s.Coverage, colors(s.Colors))
		if s.Undecoded > 0 {
			line("", "%d rectangles could not be decoded: %s", s.Undecoded, s.Fault)
		}
	}
	return b.String()
}

func accountName(r *probe.Result) string {
	if r.Domain == "" {
		return r.User
	}
	return r.Domain + `\` + r.User
}

func stages(all []probe.StageTime) string {
	var parts []string
	for _, s := range all {
		parts = append(parts, fmt.Sprintf("%s %.1f ms", s.Stage, s.Millis))
	}
	return strings.Join(parts, ", ")
}

func logon(r *probe.Result) string {
	s := string(r.Logon)
	if r.LogonBy != "" {
		s += " (" + r.LogonBy + ")"
	}
	if r.Account != "" {
		s += fmt.Sprintf(", as %q", r.Account)
	}
	if r.SessionID != nil {
		s += fmt.Sprintf(", session %d", *r.SessionID)
	}
	for _, c := range []struct {
		label string
		code  *probe.Code
	}{{"NLA", r.NLAStatus}, {"logon screen", r.LogonNotice}, {"error info", r.ErrorInfo}} {
		if c.code != nil {
			s += fmt.Sprintf("; %s %s", c.label, c.code)
		}
	}
	return s
}

func colors(n int) string {
	switch {
	case n <= 1:
		return "blank"
	case n >= 1000:
		return "1000 colours or more"
	}
	return fmt.Sprintf("%d colours", n)
}
