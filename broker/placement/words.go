package placement

import (
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func stateForPeople(h *hostView, s sessions.Session, now time.Time) string {
	if ago, ok := h.Report.DisconnectedFor(s, now); ok {
		return "disconnected " + short(ago) + " ago"
	}
	switch s.State {
	case sessions.StateDisconnected:
		return "disconnected"
	case sessions.StateActive:
		return "active"
	}
	return s.State.String()
}

// short prints a duration for people: seconds under two minutes, else minutes.
func short(d time.Duration) string {
	if d < 2*time.Minute {
		return d.Round(time.Second).String()
	}
	d = d.Round(time.Minute)
	if h := int(d.Hours()); h > 0 {
		return fmt.Sprintf("%dh%02dm", h, int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dm", int(d.Minutes()))
}
