package page

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// Texts are cut at these lengths, in characters.
const (
	maxWord     = 64
	maxSentence = 400
)

// functions are those of the templates.
var functions = template.FuncMap{
	"word":     func(s string) string { return admin.Clean(s, maxWord) },
	"sentence": func(s string) string { return admin.Clean(s, maxSentence) },
	"ago":      func(at int64) string { return admin.Age(time.Since(time.Unix(at, 0))) },
	"clock":    func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"rfc3339":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"lower":    strings.ToLower,
}

// maxBoxes is how many slots are drawn one by one; more are drawn as a bar.
const maxBoxes = 32

// trembling is by how much the time since when something is may differ from one
// reading to the next and count as the same.
const trembling = 30 // seconds

// hostView is one host as it is shown.
type hostView struct {
	*admin.Host
	Boxes []box
	Bar   []segment
	// Label says in words what the slots' picture shows.
	Label string
	Notes []note
	// Sessions is nil where they are shown only when the host is opened.
	Sessions *sessionsView
	Count    int
}

// box is one slot.
type box struct {
	Kind  string // active, disconnected, other, leaving, stuck, reserved, free, closed
	Title string
}

// segment is some slots of a bar.
type segment struct {
	Kind string
	X, N int // where it begins, and its width, in thousandths
}

// note is what an operator should know of a host.
type note struct {
	Grave bool
	Text  string
}

// view makes the host's row; the times since when its sessions are what they are
// stay those of the last time, as far as they are the same.
func (r *row) view(h *admin.Host, list admin.Sessions, inline bool) hostView {
	v := hostView{Host: h, Notes: notes(h), Count: len(list.Sessions)}
	table := viewSessions(list, false)
	since := make(map[string]int64, len(table.Sessions))
	for i := range table.Sessions {
		s := &table.Sessions[i]
		id := s.Key + s.State
		if was, ok := r.since[id]; ok && was-s.Since < trembling && s.Since-was < trembling {
			s.Since = was
		}
		since[id] = s.Since
	}
	r.since = since
	for i := range table.Sessions {
		if s := &table.Sessions[i]; s.holds {
			v.Boxes = append(v.Boxes, box{s.Kind, s.Who + ", " + lowerFirst(s.State)})
		}
	}
	for range h.Reserved {
		v.Boxes = append(v.Boxes, box{"reserved", "promised to somebody who is on the way"})
	}
	free, kind, title := h.Limit-len(v.Boxes), "free", "free"
	if h.State != admin.HostUp || h.Draining {
		kind, title = "closed", "free, but nobody new is placed here"
	}
	for range free {
		v.Boxes = append(v.Boxes, box{kind, title})
	}
	v.Label = label(h, v.Boxes)
	if len(v.Boxes) > maxBoxes {
		v.Bar, v.Boxes = bar(v.Boxes), nil
	}
	if inline {
		v.Sessions = &table
	}
	return v
}

// bar draws many slots as one bar, a segment for each kind.
func bar(boxes []box) (out []segment) {
	counts := map[string]int{}
	for _, b := range boxes {
		counts[b.Kind]++
	}
	x := 0
	for _, kind := range []string{"active", "other", "disconnected", "leaving", "stuck", "reserved", "closed", "free"} {
		if n := counts[kind] * 1000 / len(boxes); n > 0 {
			out = append(out, segment{kind, x, n})
			x += n
		}
	}
	return out
}

// label says in words what the picture shows.
func label(h *admin.Host, boxes []box) string {
	if h.Limit == 0 {
		return "the number of slots is not known"
	}
	counts := map[string]int{}
	for _, b := range boxes {
		counts[b.Kind]++
	}
	var parts []string
	for _, k := range []struct{ kind, word string }{
		{"active", "active"}, {"disconnected", "disconnected"}, {"other", "logging on"}, {"leaving", "leaving"}, {"stuck", "stuck"},
		{"reserved", "reserved"}, {"free", "free"}, {"closed", "closed to newcomers"},
	} {
		if n := counts[k.kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, k.word))
		}
	}
	return fmt.Sprintf("%d of %d slots used: %s", h.Used, h.Limit, strings.Join(parts, ", "))
}

func notes(h *admin.Host) (out []note) {
	add := func(grave bool, text string) { out = append(out, note{grave, admin.Clean(text, maxSentence)}) }
	if h.Problem != "" {
		add(true, h.Problem)
	}
	if h.State == admin.HostStale {
		add(true, "Nobody new is placed here until it can be read again.")
	}
	if h.State == admin.HostUp && h.Limit == 0 {
		add(true, "The number of slots is not known: set slots in the configuration.")
	}
	for _, w := range h.Warnings {
		add(false, w)
	}
	if h.NoEvict != "" {
		add(false, "Nobody is logged off here: "+h.NoEvict)
	}
	if h.Assumed && h.State == admin.HostUp {
		add(false, "It does not tell whether disconnected sessions hold slots; they are counted.")
	}
	return out
}

// sessionsView is a table of sessions.
type sessionsView struct {
	Sessions []sessionView
	// Hosts: they are of several hosts.
	Hosts bool
}

// sessionView is one session as it is shown.
type sessionView struct {
	Host, Key, Who, State, Kind, From string
	ID                                int
	// Since is the Unix time since when it is active or disconnected, 0 if that is not known.
	Since int64
	Notes []string
	// Gone: nobody sits in front, and it could be logged off.
	Gone bool
	Kept bool

	holds bool
}

func viewSessions(list admin.Sessions, hosts bool) sessionsView {
	v := sessionsView{Hosts: hosts, Sessions: []sessionView{}}
	for i := range list.Sessions {
		v.Sessions = append(v.Sessions, viewSession(&list.Sessions[i], list.Now))
	}
	return v
}

func viewSession(s *admin.Session, now time.Time) sessionView {
	v := sessionView{
		Host: s.Host, ID: s.ID, Key: s.Key, Who: admin.Clean(s.Account.String(), maxWord), State: s.State.String(),
		Kind: "other", holds: s.HoldsSlot, Kept: s.Kept != nil, Gone: s.State == sessions.StateDisconnected && !s.Leaving,
	}
	for d, since := range map[time.Duration]bool{s.DisconnectedFor: s.State == sessions.StateDisconnected, s.LoggedOnFor: s.State != sessions.StateDisconnected} {
		if since && d > 0 {
			v.Since = now.Add(-d).Unix()
		}
	}
	switch {
	case s.Stuck:
		v.Kind = "stuck"
	case s.Leaving:
		v.Kind = "leaving"
	case s.State == sessions.StateActive:
		v.Kind = "active"
	case s.State == sessions.StateDisconnected:
		v.Kind = "disconnected"
	}
	if v.Who == "" {
		v.Who = "somebody who logs on"
	}
	v.From = admin.Clean(s.ClientName, maxWord)
	if s.ClientAddr.IsValid() {
		v.From = strings.TrimSpace(v.From + " " + admin.Clean(s.ClientAddr.String(), maxWord))
	}
	switch {
	case s.Stuck:
		v.Notes = append(v.Notes, "does not log off, and keeps its slot")
	case s.Leaving:
		v.Notes = append(v.Notes, "is being logged off")
	}
	if k := s.Kept; k != nil {
		v.Notes = append(v.Notes, "kept until "+k.Until.UTC().Format("Jan 2 15:04 MST")+" by "+admin.Clean(k.By, maxWord))
	}
	if !s.HoldsSlot {
		v.Notes = append(v.Notes, "holds no slot")
	}
	if s.Program != "" {
		v.Notes = append(v.Notes, "runs "+admin.Clean(s.Program, maxWord))
	}
	if s.Stale {
		v.Notes = append(v.Notes, "as it was at the last reading")
	}
	return v
}

// waitingView is one who waits.
type waitingView struct {
	Who, From, Farm, Why string
	Since                int64
}

func viewWaiting(list admin.WaitingList) (out []waitingView) {
	for _, w := range list.Waiting {
		v := waitingView{Who: caller(w.Identity), Farm: w.Farm, Why: admin.Clean(w.Reason, maxSentence), Since: w.Since.Unix()}
		if w.Identity.Client.IsValid() {
			v.From = admin.Clean(w.Identity.Client.String(), maxWord)
		}
		out = append(out, v)
	}
	return out
}

// caller is whom an identity is taken for, or else what it said.
func caller(id sessions.Identity) string {
	if a, ok := id.Account(); ok {
		return admin.Clean(a.String(), maxWord)
	}
	if id.Said != "" {
		return "“" + admin.Clean(id.Said, maxWord) + "”"
	}
	return "somebody"
}

// recordView is one record as it is shown.
type recordView struct {
	At   time.Time
	Kind string // the colour: good, wait, cost, bad, order
	Verb string
	Who  string
	From string
	Host string
	// Cost is whom it costs.
	Cost string
	Why  string
	By   string
	// Candidates are all that was looked at.
	Candidates []placement.Candidate
}

// verbs are what events are called, and their colours.
var verbs = map[audit.Event][2]string{
	audit.Refused: {"turned away", "bad"}, audit.Left: {"gave up waiting", "bad"},
	audit.Evicting: {"logging off", "cost"}, audit.Evicted: {"logged off", "cost"},
	audit.EvictionRefused: {"not logged off", "bad"}, audit.EvictionStuck: {"does not log off", "bad"}, audit.EvictionFailed: {"logoff unclear", "bad"},
	audit.Confirmed: {"has arrived", "good"}, audit.SecondSession: {"has a second session", "bad"},
	audit.ModeSet: {"eviction mode", "order"}, audit.KeepSet: {"kept", "order"}, audit.KeepEnded: {"no longer kept", "order"},
	audit.DrainSet: {"drain", "order"}, audit.MessageShown: {"message", "order"}, audit.Reloaded: {"configuration reloaded", "order"},
}

// kinds are the same for decisions.
var kinds = map[placement.Kind][2]string{
	placement.Reconnect: {"back to own session", "good"}, placement.TakeOver: {"takes over own session", "good"},
	placement.Place: {"gets a free slot", "good"}, placement.MakeRoom: {"gets a slot that is made free", "cost"},
	placement.WaitForSlot: {"waits", "wait"}, placement.Refuse: {"turned away", "bad"},
}

func viewRecord(r *audit.Record) recordView {
	v := recordView{At: r.Time, By: admin.Clean(r.By, maxWord), Host: r.Decision.Host, Candidates: r.Decision.Candidates}
	said, ok := verbs[r.Event]
	if r.Event == audit.Decided {
		said, ok = kinds[r.Decision.Kind]
	}
	if !ok {
		said = [2]string{admin.Clean(string(r.Event), maxWord), "order"}
	}
	v.Verb, v.Kind = said[0], said[1]
	switch {
	case r.Event == audit.Confirmed:
		v.Who = admin.Clean(r.Account.String(), maxWord)
	case v.Kind != "order" && r.By == "":
		v.Who = caller(r.Identity)
		if r.Identity.Client.IsValid() {
			v.From = admin.Clean(r.Identity.Client.String(), maxWord)
		}
	}
	if x := cmp.Or(r.Decision.Victim, r.Decision.Would); x != nil {
		v.Cost = fmt.Sprintf("%s on %s, disconnected for %s", admin.Clean(x.Session.Account.String(), maxWord), admin.Clean(x.Host, maxWord), admin.Age(x.DisconnectedFor))
		if r.Decision.Victim == nil {
			v.Cost = "shadow mode: it would have been " + v.Cost
		}
	}
	var order []string
	if r.Host != "" {
		order = append(order, r.Host)
	}
	if r.Session != nil {
		order = append(order, r.Session.String(), r.Account.String())
	}
	if r.Setting != "" {
		order = append(order, r.Setting)
	}
	if !r.Until.IsZero() {
		order = append(order, "until "+r.Until.UTC().Format("Jan 2 15:04 MST"))
	}
	v.Why = admin.Clean(cmp.Or(r.Error, r.Decision.Reason, strings.Join(order, " ")), maxSentence)
	if r.Error != "" {
		v.Kind = "bad"
	}
	// What was chosen first.
	v.Candidates = slices.Clone(v.Candidates)
	slices.SortStableFunc(v.Candidates, func(a, b placement.Candidate) int {
		switch {
		case a.Chosen == b.Chosen:
			return 0
		case a.Chosen:
			return -1
		}
		return 1
	})
	return v
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
