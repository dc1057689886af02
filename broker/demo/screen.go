package demo

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// screen is what the person in front of the demo reads.
type screen struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, format, args...)
}

func (s *screen) welcome(f *farm, rdp net.Addr, d *daemon.Daemon, socket string) {
	s.printf(`rdpbroker demo: two simulated Windows hosts with %d slots each, all taken, and the broker in front.

%s
Point any RDP client at %s. The hosts want the password first (NLA); everybody's is %[7]q.
Try, each in a window of its own:

  xfreerdp /v:%[3]s /cert:ignore /size:1024x768 /p:%[7]s /u:erin    a new user: room is made once the host has accepted the password
  xfreerdp /v:%[3]s /cert:ignore /size:1024x768 /p:wrong /u:frank  a guesser: the host refuses, and nobody is logged off
  xfreerdp /v:%[3]s /cert:ignore /size:1024x768 /p:%[7]s /u:carol   back to her own session on ts2

Without the broker, for comparison: rdpbroker demo --without-broker
The page:        %[6]s
                 (this link logs one browser in, once; another one: rdpbroker page --socket %[4]s)
Ask the broker:  rdpbroker top --socket %[4]s
                 rdpbroker explain bob --socket %[4]s
Metrics and health: http://%[5]s/metrics  http://%[5]s/healthz
Ctrl-C ends the demo. What the broker decides:

`, slots, f.table(), rdp, socket, d.MetricsAddr(), d.PageLink(), userPassword)
}

func (s *screen) bare(f *farm) {
	s.printf(`rdpbroker demo --without-broker: a simulated Windows host with %d slots, both taken.

%s
Point any RDP client at %s as somebody who has no session there, and read what it shows:

  xfreerdp /v:%[3]s /cert:ignore /size:1024x768 /p:%[4]s /u:erin

Ctrl-C ends the demo.

`, slots, f.table(), f.hosts[0].rdp.Addr(), userPassword)
}

// table lists the slots of all hosts.
func (f *farm) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  HOST\tADDRESS\tSLOT\tSESSION\tUSER\tSTATE")
	for _, h := range f.hosts {
		slot := 0
		now := h.Model().HostTime()
		for _, x := range h.Model().Sessions() {
			if !x.HasUser() {
				continue
			}
			slot++
			state := "active"
			if x.State == sessions.StateDisconnected {
				state = fmt.Sprintf("disconnected for %s", age(now.Sub(x.DisconnectedAt)))
			}
			fmt.Fprintf(w, "  %s\t%s\t%d of %d\t%d\t%s\t%s\n", h.name, h.rdp.Addr(), slot, slots, x.ID, x.Account, state)
		}
	}
	w.Flush()
	return b.String()
}

func age(d time.Duration) string {
	d = d.Round(time.Minute)
	if h := int(d.Hours()); h > 0 {
		return fmt.Sprintf("%dh%02dm", h, int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dm", int(d.Minutes()))
}

func (s *screen) line(at time.Time, who, what string) {
	s.printf("%s  %-7s %s\n", at.Format("15:04:05"), who, what)
}

// record prints an event of the broker.
func (s *screen) record(r audit.Record) {
	caller := r.Identity.Said
	if a, ok := r.Identity.Account(); ok {
		caller = a.User
	}
	if caller == "" {
		caller = "somebody without a name"
	}
	d := r.Decision
	if d.Kind == placement.KeepFree {
		caller = "whoever comes"
	}
	switch r.Event {
	case audit.Decided:
		if d.Kind == placement.KeepFree || d.Kind == placement.Disconnect {
			s.line(r.Time, "broker", d.Reason)
			return
		}
		verb := map[placement.Kind]string{
			placement.Reconnect:   "goes back to " + d.Host,
			placement.TakeOver:    "takes over on " + d.Host,
			placement.Place:       "gets a free slot on " + d.Host,
			placement.MakeRoom:    "gets a slot on " + d.Host + " once there is room",
			placement.WaitForSlot: "waits",
		}[d.Kind]
		if d.NeedsProof {
			verb = "gets a slot on " + d.Host + " if the host accepts the password"
		}
		s.line(r.Time, "broker", fmt.Sprintf("%s %s: %s", caller, verb, d.Reason))
	case audit.Refused:
		s.line(r.Time, "broker", fmt.Sprintf("%s gets nothing: %s", caller, d.Reason))
	case audit.Left:
		s.line(r.Time, "broker", fmt.Sprintf("%s left while waiting", caller))
	case audit.Evicting:
		s.line(r.Time, "broker", fmt.Sprintf("logs off %s (session %s) for %s", d.Victim.Session.Account, d.Victim.Ref(), caller))
	case audit.Evicted:
		s.line(r.Time, "broker", fmt.Sprintf("%s is gone after %s", d.Victim.Session.Account, r.Took.Round(100*time.Millisecond)))
	case audit.EvictionRefused, audit.EvictionFailed, audit.EvictionStuck:
		s.line(r.Time, "broker", fmt.Sprintf("%s was not logged off: %s", d.Victim.Session.Account, r.Error))
	case audit.Confirmed:
		s.line(r.Time, "broker", fmt.Sprintf("sees the session of %s on %s", r.Account, d.Host))
	case audit.SecondSession:
		s.line(r.Time, "broker", fmt.Sprintf("%s has a second session now, beside %s", r.Account, r.Earlier[0]))
	}
}

// hostEvent prints an event of a simulated host.
func (s *screen) hostEvent(host string, e simhost.Event) {
	text := fmt.Sprintf("%s: %s", e.Kind, e.Session.Account)
	if e.Session.ID != 0 {
		text += fmt.Sprintf(", session %d", e.Session.ID)
	}
	if e.Text != "" {
		text += ": " + e.Text
	}
	s.line(e.At, host, text)
}
