package client

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
)

// AuditLine is one record for people, on one line: when, what, who from where, whom
// it cost, and why.
func AuditLine(r *audit.Record) string {
	var b strings.Builder
	b.WriteString(r.Time.Local().Format("2006-01-02 15:04:05"))
	fmt.Fprintf(&b, "  %-16s", auditWord(r))
	if r.Farm != "" {
		fmt.Fprintf(&b, "  %s", admin.Clean(r.Farm, maxWord))
	}
	switch {
	case r.Note != nil:
		b.WriteString("  " + note(*r.Note))
	case r.Setting != "" || r.Session != nil && r.Decision.Victim == nil:
		b.WriteString("  " + order(r))
	case r.By == "" && r.Decision.Kind != placement.KeepFree && r.Decision.Kind != placement.Disconnect: // these have no caller
		b.WriteString("  " + auditCaller(r))
	}
	if r.Decision.Host != "" {
		b.WriteString(" -> " + admin.Clean(r.Decision.Host, maxWord))
	}
	switch {
	case r.Decision.Victim != nil:
		b.WriteString("  costs " + victim(r.Decision.Victim))
	case r.Decision.Would != nil:
		b.WriteString("  would cost " + victim(r.Decision.Would))
	}
	if r.Event == audit.Confirmed || r.Event == audit.SecondSession {
		b.WriteString("  is " + account(r.Account))
	}
	for _, ref := range r.Earlier {
		b.WriteString("  and left " + admin.Clean(ref.String(), maxWord))
	}
	if r.Evidence != "" {
		b.WriteString("  on " + admin.Clean(string(r.Evidence), maxWord))
	}
	if r.Took >= time.Millisecond {
		b.WriteString("  took " + r.Took.Round(time.Millisecond).String())
	}
	if r.By != "" {
		b.WriteString("  by " + admin.Clean(r.By, maxWord))
	}
	if why := cmp.Or(r.Error, r.Decision.Reason); why != "" && r.Event != audit.Confirmed {
		b.WriteString("  " + admin.Clean(why, maxSentence))
	}
	return b.String()
}

// auditWord is what happened: the kind of a decision, else the event.
func auditWord(r *audit.Record) string {
	if r.Event == audit.Decided {
		return r.Decision.Kind.String()
	}
	return admin.Clean(string(r.Event), maxWord)
}

// order is what an operator has set.
func order(r *audit.Record) string {
	var words []string
	if r.Host != "" {
		words = append(words, admin.Clean(r.Host, maxWord))
	}
	if r.Session != nil {
		words = append(words, admin.Clean(r.Session.String(), maxWord), account(r.Account))
	}
	if r.Setting != "" {
		words = append(words, admin.Clean(r.Setting, maxWord))
	}
	if !r.Until.IsZero() {
		words = append(words, "until "+minute(r.Until))
	}
	return strings.Join(words, " ")
}

func auditCaller(r *audit.Record) string {
	who := caller(r.Identity)
	if r.Identity.Client.IsValid() {
		who += " from " + address(r.Identity.Client)
	}
	return who + " (" + r.Identity.Confidence.String() + ")"
}

func note(n audit.Note) string {
	var says []string
	if n.Torn != nil {
		says = append(says, fmt.Sprintf("%d bytes of a line were cut off", n.Torn.Bytes))
	}
	if n.Lost > 0 {
		says = append(says, fmt.Sprintf("%d records could not be written", n.Lost))
	}
	if n.Gap != nil {
		says = append(says, fmt.Sprintf("lines %d to %d were not there at the start", n.Gap.From, n.Gap.To))
	}
	if n.Retired != nil {
		says = append(says, fmt.Sprintf("lines %d to %d were deleted because they were old enough", n.Retired.From, n.Retired.To))
	}
	return strings.Join(says, "; ")
}

// WriteWould writes what evict mode would have done, as tables. Of the sessions it
// names the newest most.
func WriteWould(w io.Writer, x audit.Would, most int) error {
	if x.Decisions == 0 && len(x.Logoffs) == 0 && x.Idle == 0 {
		_, err := io.WriteString(w, "No decision was made in shadow mode in this time.\n")
		return err
	}
	var sum table
	sum.row("decisions in shadow mode", fmt.Sprintf("%d, from %s to %s", x.Decisions, minute(x.From), minute(x.To)))
	sum.row("no slot was free", times(x.Full))
	sum.row("somebody would have been logged off", times(x.Wanted))
	sum.row("sessions that would have gone", fmt.Sprint(x.Done))
	if x.Idle > 0 {
		sum.row("idle users that would have been disconnected", fmt.Sprint(x.Idle))
	}
	for _, c := range x.Stopped {
		sum.row("  stopped by "+c.What, fmt.Sprint(c.N))
	}
	if err := sum.write(w); err != nil {
		return err
	}
	if len(x.Logoffs) > 0 {
		var ages table
		ages.row("DISCONNECTED FOR AT LEAST", "SESSIONS")
		for _, o := range x.Older {
			ages.row(admin.Age(o.For), fmt.Sprint(o.N))
		}
		var list table
		list.row("WHEN", "SESSION", "WHOSE", "DISCONNECTED", "FOR WHOM", "FROM", "TIMES", "NOTES")
		shown := x.Logoffs[max(0, len(x.Logoffs)-most):]
		for i := range shown {
			l := &shown[i]
			stopped := ""
			if l.Stopped != "" {
				stopped = "stopped by " + l.Stopped
			}
			list.row(minute(l.At), fmt.Sprintf("%s/%d", admin.Clean(l.Host, maxWord), l.Session), account(l.Account), admin.Age(l.DisconnectedFor),
				admin.Clean(cmp.Or(l.For, "somebody"), maxWord), address(l.Client), fmt.Sprint(l.Times), stopped)
		}
		for _, t := range []*table{counted("HOST", "SESSIONS", x.Hosts), counted("WHOSE", "SESSIONS", x.Users), &ages, &list} {
			if err := under(w, t); err != nil {
				return err
			}
		}
		if left := len(x.Logoffs) - len(shown); left > 0 {
			if _, err := fmt.Fprintf(w, "and %d before; --json has all\n", left); err != nil {
				return err
			}
		}
	}
	if len(x.Spared) > 0 {
		if err := under(w, counted("SPARED BECAUSE", "TIMES", x.Spared)); err != nil {
			return err
		}
	}
	return nil
}

// under writes t below something else.
func under(w io.Writer, t *table) error {
	if len(t.rows) < 2 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return t.write(w)
}

// counted is a table of the most frequent.
func counted(what, n string, cs []audit.Count) *table {
	const most = 20
	t := new(table)
	t.row(what, n)
	for _, c := range cs[:min(most, len(cs))] {
		t.row(admin.Clean(c.What, maxSentence), fmt.Sprint(c.N))
	}
	return t
}

func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
