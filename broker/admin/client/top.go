package client

import (
	"fmt"
	"io"
	"strings"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/audit"
)

// Top is the farm at a glance.
type Top struct {
	Status admin.Overview `json:"status"`
	Hosts  admin.Hosts    `json:"hosts"`
	// Records are what was decided last, the newest first.
	Records []audit.Record `json:"records"`
}

// topRecords is how many records are shown.
const topRecords = 12

// WriteTop writes the farm at a glance: numbers, hosts, who waits, what was decided.
func WriteTop(w io.Writer, x Top) error {
	var b strings.Builder
	fmt.Fprintf(&b, "rdpbroker %s, %s, up %s, %d connections\n", admin.Clean(x.Status.Version, maxWord), x.Status.Now.Local().Format("15:04:05"),
		admin.Age(x.Status.Now.Sub(x.Status.StartedAt)), x.Status.Connections)
	if x.Status.NotReady != "" {
		fmt.Fprintf(&b, "NOT READY: %s\n", admin.Clean(x.Status.NotReady, maxSentence))
	}
	for _, f := range x.Status.Farms {
		fmt.Fprintf(&b, "%s: %d of %d slots used, %d free, %d waiting; eviction %s%s\n", admin.Clean(f.Name, maxWord), f.Used, f.Slots, f.Free, f.Waiting,
			admin.Clean(f.Eviction, maxWord), overruled(f))
	}
	b.WriteByte('\n')
	var t table
	t.row("HOST", "FARM", "STATE", "SLOTS", "", "NOTES")
	for i := range x.Hosts.Hosts {
		h := &x.Hosts.Hosts[i]
		t.row(admin.Clean(h.Name, maxWord), admin.Clean(h.Farm, maxWord), hostState(h), bar(h), slots(h), admin.Clean(h.Problem, maxSentence))
	}
	if err := t.write(&b); err != nil {
		return err
	}
	if len(x.Hosts.Waiting) > 0 {
		b.WriteByte('\n')
		if err := WriteWaiting(&b, admin.WaitingList{Now: x.Hosts.Now, Waiting: x.Hosts.Waiting}); err != nil {
			return err
		}
	}
	if len(x.Records) > 0 {
		b.WriteByte('\n')
		for i := range x.Records[:min(topRecords, len(x.Records))] {
			b.WriteString(AuditLine(&x.Records[i]) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func overruled(f admin.FarmOverview) string {
	if f.Configured == "" {
		return ""
	}
	return " by an operator's order (configured: " + admin.Clean(f.Configured, maxWord) + ")"
}

// barWidth is how many slots are drawn one by one.
const barWidth = 24

// bar draws the slots: # active, = disconnected, ~ reserved or else in use, . free.
func bar(h *admin.Host) string {
	if h.Limit == 0 {
		return ""
	}
	scale := func(n int) int {
		if h.Limit <= barWidth {
			return n
		}
		return (n*barWidth + h.Limit - 1) / h.Limit
	}
	disconnected := 0
	if h.CountsDisconnected {
		disconnected = h.Disconnected
	}
	out := strings.Repeat("#", scale(h.Active)) + strings.Repeat("=", scale(disconnected))
	if rest := h.Used - h.Active - disconnected; rest > 0 {
		out += strings.Repeat("~", scale(rest))
	}
	if free := min(h.Limit, barWidth) - len(out); free > 0 {
		out += strings.Repeat(".", free)
	}
	return "[" + out + "]"
}
