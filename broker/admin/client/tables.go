package client

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Cells are cut at these lengths, in characters.
const (
	maxWord     = 64
	maxSentence = 300
)

// none stands in a cell that has nothing to say.
const none = "-"

// table collects rows of cells that are clean, and writes them in columns.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	var width []int
	for _, cells := range t.rows {
		for i, c := range cells {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, cells := range t.rows {
		var line strings.Builder
		for i, c := range cells {
			fmt.Fprintf(&line, "%-*s  ", width[i], c)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteHosts writes a table of hosts, and one of who waits if somebody does.
func WriteHosts(w io.Writer, hosts admin.Hosts) error {
	var t table
	t.row("HOST", "FARM", "STATE", "SLOTS", "READ", "BY", "NOTES")
	for i := range hosts.Hosts {
		h := &hosts.Hosts[i]
		read := "never"
		if !h.ReadAt.IsZero() {
			read = admin.Age(hosts.Now.Sub(h.ReadAt)) + " ago"
		}
		t.row(admin.Clean(h.Name, maxWord), admin.Clean(h.Farm, maxWord), hostState(h), slots(h), read, admin.Clean(cmp.Or(h.Source, none), maxWord), admin.Clean(strings.Join(hostNotes(h), "; "), maxSentence))
	}
	if err := t.write(w); err != nil || len(hosts.Waiting) == 0 {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return WriteWaiting(w, admin.WaitingList{Now: hosts.Now, Waiting: hosts.Waiting})
}

func hostState(h *admin.Host) string {
	if h.Draining {
		return admin.Clean(h.State, maxWord) + ", draining"
	}
	return admin.Clean(h.State, maxWord)
}

// slots is "1/2 used, 1 disconnected".
func slots(h *admin.Host) string {
	if h.ReadAt.IsZero() {
		return none
	}
	limit := "?"
	if h.Limit > 0 {
		limit = fmt.Sprint(h.Limit)
	}
	out := fmt.Sprintf("%d/%s used", h.Used, limit)
	if h.Disconnected > 0 {
		out += fmt.Sprintf(", %d disconnected", h.Disconnected)
	}
	if h.Reserved > 0 {
		out += fmt.Sprintf(", %d reserved", h.Reserved)
	}
	return out
}

// hostNotes are what else an operator should know of h.
func hostNotes(h *admin.Host) []string {
	var notes []string
	if h.Problem != "" {
		notes = append(notes, h.Problem)
	}
	if h.State == admin.HostStale {
		notes = append(notes, "nobody new is placed there until it can be read")
	}
	if h.ReadAt.IsZero() {
		return notes
	}
	switch {
	case h.Limit == 0:
		notes = append(notes, "the number of slots is not known: set slots")
	case h.LimitSource != "":
		notes = append(notes, "slots by "+h.LimitSource)
	}
	switch {
	case h.Assumed:
		notes = append(notes, "assumed: disconnected sessions hold slots")
	case !h.CountsDisconnected:
		notes = append(notes, "disconnected sessions hold no slots"+by(h.CountsSource))
	case h.CountsSource != "":
		notes = append(notes, "disconnected sessions hold slots"+by(h.CountsSource))
	}
	notes = append(notes, h.Warnings...)
	if h.NoEvict != "" {
		notes = append(notes, "nobody is logged off there: "+h.NoEvict)
	}
	return notes
}

// by is where something comes from, as the end of a note.
func by(source string) string {
	if source == "" {
		return ""
	}
	return " (" + source + ")"
}

// WriteSessions writes a table of sessions.
func WriteSessions(w io.Writer, list admin.Sessions) error {
	var t table
	t.row("SESSION", "ACCOUNT", "STATE", "DISCONNECTED", "LOGGED ON", "CLIENT", "NOTES")
	for i := range list.Sessions {
		s := &list.Sessions[i]
		gone := none
		if s.State == sessions.StateDisconnected {
			gone = known(s.DisconnectedFor)
		}
		t.row(fmt.Sprintf("%s/%d", admin.Clean(s.Host, maxWord), s.ID), account(s.Account), s.State.String(), gone,
			known(s.LoggedOnFor), client(s), admin.Clean(strings.Join(sessionNotes(s), "; "), maxSentence))
	}
	return t.write(w)
}

func sessionNotes(s *admin.Session) []string {
	var notes []string
	switch {
	case s.Stuck:
		notes = append(notes, "is stuck: it does not log off, and keeps its slot")
	case s.Leaving:
		notes = append(notes, "is being logged off")
	}
	if k := s.Kept; k != nil {
		notes = append(notes, "kept until "+k.Until.Local().Format("2006-01-02 15:04")+" by "+k.By)
	}
	if !s.HoldsSlot {
		notes = append(notes, "holds no slot")
	}
	if s.Program != "" {
		notes = append(notes, "runs "+s.Program)
	}
	if s.Stale {
		notes = append(notes, "as it was at the last reading")
	}
	return notes
}

// known is an age, or "?" where a host does not tell.
func known(d time.Duration) string {
	if d <= 0 {
		return "?"
	}
	return admin.Age(d)
}

func client(s *admin.Session) string {
	switch name := admin.Clean(s.ClientName, maxWord); {
	case name == "":
		return address(s.ClientAddr)
	case s.ClientAddr.IsValid():
		return name + " (" + s.ClientAddr.String() + ")"
	default:
		return name
	}
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return none
	}
	return admin.Clean(a.String(), maxWord) // a zone may hold anything
}

func account(a sessions.Account) string {
	if a.IsZero() {
		return none
	}
	return admin.Clean(a.String(), maxWord)
}

// caller is whom an identity is taken for, or else what it said.
func caller(id sessions.Identity) string {
	if a, ok := id.Account(); ok {
		return account(a)
	}
	if id.Said != "" {
		return `"` + admin.Clean(id.Said, maxWord) + `"`
	}
	return "somebody"
}

// WriteExplanation writes what would become of a caller, and why.
func WriteExplanation(w io.Writer, e admin.Explanation) error {
	var t table
	t.row("caller:", callerSentence(e.Identity))
	t.row("farm:", admin.Clean(e.Farm, maxWord)+eviction(e.Mode))
	if !e.At.IsZero() {
		t.row("supposed:", "it is "+e.At.Format("2006-01-02 15:04 MST")+", and nothing has happened until then")
	}
	for _, change := range e.WhatIf {
		t.row("supposed:", admin.Clean(change, maxSentence))
	}
	t.row("decision:", decision(e.Decision))
	t.row("because:", admin.Clean(e.Decision.Reason, maxSentence))
	if own := e.Decision.Own; own != nil {
		t.row("own session:", admin.Clean(own.String(), maxWord))
	}
	if v := e.Decision.Victim; v != nil {
		t.row("logged off:", victim(v))
	}
	if v := e.Decision.Would; v != nil {
		t.row("would log off:", victim(v)+" (mode shadow: it is not done)")
	}
	if e.Headroom != nil {
		t.row("headroom:", admin.Clean(e.Headroom.Reason, maxSentence))
	}
	if err := t.write(w); err != nil || len(e.Decision.Candidates) == 0 {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	var c table
	c.row("", "HOST", "SESSION", "ACCOUNT", "AS", "WHY")
	for _, x := range e.Decision.Candidates {
		mark, session, who := "", none, none
		if x.Chosen {
			mark = "*"
		}
		if x.Session != 0 {
			session = fmt.Sprint(x.Session)
		}
		if x.Account != "" {
			who = admin.Clean(x.Account, maxWord)
		}
		c.row(mark, admin.Clean(x.Host, maxWord), session, who, admin.Clean(x.As, maxWord), admin.Clean(x.Why, maxSentence))
	}
	return c.write(w)
}

// callerSentence says who is asked about, and how well they are known.
func callerSentence(id sessions.Identity) string {
	var b strings.Builder
	b.WriteString(caller(id))
	if id.Client.IsValid() {
		b.WriteString(" from " + address(id.Client))
		if id.Trusted {
			b.WriteString(" (trusted)")
		}
	}
	fmt.Fprintf(&b, "; confidence: %s", id.Confidence)
	if id.Token != "" && id.Confidence != sessions.ConfidenceToken {
		b.WriteString(" (token: " + admin.Clean(id.Token, maxWord) + ")")
	}
	switch _, one := id.Account(); {
	case one && id.Known:
		b.WriteString("; a known account")
	case one:
		b.WriteString("; nobody has seen this account yet")
	case len(id.Accounts) > 1:
		names := make([]string, len(id.Accounts))
		for i, a := range id.Accounts {
			names[i] = account(a)
		}
		b.WriteString("; could be " + admin.Clean(strings.Join(names, " or "), maxSentence))
	}
	return b.String()
}

func eviction(mode string) string {
	if mode == "" {
		return ""
	}
	return " (eviction: " + admin.Clean(mode, maxWord) + ")"
}

func decision(d placement.Decision) string {
	if d.Host == "" {
		return d.Kind.String()
	}
	return d.Kind.String() + " on " + admin.Clean(d.Host, maxWord)
}

func victim(v *placement.Victim) string {
	return fmt.Sprintf("%s %s, disconnected for %s", admin.Clean(v.Ref().String(), maxWord), account(v.Session.Account), admin.Age(v.DisconnectedFor))
}
