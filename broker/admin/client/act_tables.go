package client

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// WriteDone writes what was done.
func WriteDone(w io.Writer, d admin.Done) error {
	lines := append([]string{d.Done}, d.Failed...)
	for i := range lines {
		lines[i] = admin.Clean(lines[i], maxSentence)
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// WriteChanges writes what a reload changes, or would.
func WriteChanges(w io.Writer, c admin.Changes) error {
	verb := map[bool]string{true: "changed", false: "would change"}[c.Applied]
	if len(c.Changes) == 0 {
		_, err := fmt.Fprintf(w, "nothing %s\n", verb)
		return err
	}
	var t table
	for _, x := range c.Changes {
		t.row(admin.Clean(x.Kind, maxWord), admin.Clean(x.What, maxSentence))
	}
	if err := t.write(w); err != nil {
		return err
	}
	switch {
	case c.Slots < 0:
		_, err := fmt.Fprintf(w, "%d slots less\n", -c.Slots)
		return err
	case c.Slots > 0:
		_, err := fmt.Fprintf(w, "%d slots more\n", c.Slots)
		return err
	}
	return nil
}

// WriteConnections writes a table of connections.
func WriteConnections(w io.Writer, list admin.Connections) error {
	var t table
	t.row("CONNECTION", "CLIENT", "WHO", "HOST", "FARM", "SINCE", "BECAUSE", "BYTES")
	for _, c := range list.Connections {
		who := account(c.Account)
		if who == none && c.Said != "" {
			who = `"` + admin.Clean(c.Said, maxWord) + `"`
		}
		bytes := none
		if c.ToHost != nil && c.ToClient != nil {
			bytes = fmt.Sprintf("%s to the host, %s back", size(*c.ToHost), size(*c.ToClient))
		}
		t.row(fmt.Sprint(c.ID), admin.Clean(c.Client, maxWord), who, admin.Clean(c.Host, maxWord), admin.Clean(c.Farm, maxWord),
			admin.Age(list.Now.Sub(c.Since)), c.Kind.String(), bytes)
	}
	return t.write(w)
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	x, i := float64(n), 0
	for x >= 1000 && i < len(units)-1 {
		x, i = x/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", x, units[i])
}

// WriteWaiting writes a table of those who wait.
func WriteWaiting(w io.Writer, list admin.WaitingList) error {
	var q table
	q.row("WAITING", "FROM", "FARM", "SINCE", "WHY")
	for _, x := range list.Waiting {
		q.row(caller(x.Identity), address(x.Identity.Client), admin.Clean(x.Farm, maxWord), admin.Age(list.Now.Sub(x.Since)), admin.Clean(x.Reason, maxSentence))
	}
	return q.write(w)
}

// Account is whose session x is, for people.
func Account(x *admin.Session) string { return account(x.Account) }

// Left is who is left on a host that is drained.
type Left struct {
	// Left counts the sessions and those on their way there, Active those whose user
	// sits in front.
	Left, Active, Coming int
	// Oldest is how long the one that has been disconnected longest has been.
	Oldest time.Duration
	// Unread: the host cannot be read now, so that nobody knows.
	Unread bool
}

// LeftOn is who is left on host.
func LeftOn(host string, hosts admin.Hosts, list admin.Sessions) Left {
	l := Left{Unread: true}
	for i := range hosts.Hosts {
		if h := &hosts.Hosts[i]; h.Name == host {
			l.Unread = h.State != admin.HostUp
			l.Coming = h.Reserved
		}
	}
	l.Left = l.Coming
	for i := range list.Sessions {
		x := &list.Sessions[i]
		l.Left++
		if x.State == sessions.StateActive {
			l.Active++
		}
		l.Oldest = max(l.Oldest, x.DisconnectedFor)
	}
	return l
}

// Empty: nobody is left, and that is known.
func (l Left) Empty() bool { return l.Left == 0 && !l.Unread }

// String is "3 left: 1 active, 2 disconnected, the oldest for 40m".
func (l Left) String() string {
	var parts []string
	if l.Active > 0 {
		parts = append(parts, fmt.Sprintf("%d active", l.Active))
	}
	if n := l.Left - l.Active - l.Coming; n > 0 {
		parts = append(parts, fmt.Sprintf("%d disconnected", n))
	}
	if l.Coming > 0 {
		parts = append(parts, fmt.Sprintf("%d on the way", l.Coming))
	}
	if l.Oldest > 0 {
		parts = append(parts, "the oldest for "+admin.Age(l.Oldest))
	}
	if l.Unread {
		parts = append(parts, "as far as is known: the host cannot be read now")
	}
	return fmt.Sprintf("%d left: %s", l.Left, strings.Join(parts, ", "))
}
