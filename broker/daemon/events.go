package daemon

import (
	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
)

// record passes one event on to everybody who wants to know: audit file, webhook,
// recent events, metrics, log, and the demo's screen. None of them blocks.
func (d *Daemon) record(r audit.Record) {
	if d.audit != nil {
		d.audit.Record(r)
	}
	d.webhook.Record(r)
	d.recent.Add(r)
	d.events.Publish(string(r.Event), api.EventOf(r))
	if d.page != nil {
		d.page.Record(r)
	}
	d.metrics.Record(r)
	d.logRecord(r)
	if d.opts.OnRecord != nil {
		d.opts.OnRecord(r)
	}
}

// logRecord writes one line per decision, per eviction and per operator's order.
func (d *Daemon) logRecord(r audit.Record) {
	if text, ok := orders[r.Event]; ok {
		d.log.Info(text, orderFields(r)...)
		return
	}
	fields := []zap.Field{
		zap.String("farm", r.Farm),
		zap.Stringer("client", r.Identity.Client),
		zap.String("said", r.Identity.Said),
		zap.Stringer("confidence", r.Identity.Confidence),
	}
	if a, ok := r.Identity.Account(); ok {
		fields = append(fields, zap.Stringer("account", a))
	}
	if r.Identity.Token != "" {
		fields = append(fields, zap.String("token", r.Identity.Token), zap.String("token_id", r.Identity.TokenID))
	}
	if r.Reservation != 0 {
		fields = append(fields, zap.Uint64("reservation", r.Reservation))
	}
	if r.Decision.Host != "" {
		fields = append(fields, zap.String("host", r.Decision.Host))
	}
	if v := r.Decision.Victim; v != nil {
		fields = append(fields, zap.Stringer("victim", v.Session.Account), zap.Stringer("session", v.Ref()))
	}
	fields = append(fields, zap.String("why", r.Decision.Reason))
	if r.By != "" {
		fields = append(fields, zap.String("by", r.By))
	}
	if r.Took > 0 {
		fields = append(fields, zap.Duration("took", r.Took))
	}
	switch r.Event {
	case audit.Evicting:
		d.log.Info("logging off", fields...)
	case audit.Evicted:
		d.log.Info("logged off", fields...)
	case audit.EvictionRefused:
		d.log.Warn("not logged off", append(fields, zap.String("error", r.Error))...)
	case audit.EvictionFailed:
		d.log.Warn("it is not known whether a session was logged off", append(fields, zap.String("error", r.Error))...)
	case audit.EvictionStuck:
		d.log.Error("a session does not log off; its slot stays taken", append(fields, zap.String("error", r.Error))...)
	case audit.Refused:
		d.log.Warn("no slot", append(fields, zap.Any("candidates", r.Decision.Candidates))...)
	case audit.Left:
		d.log.Info("left while waiting", fields...)
	case audit.SecondSession:
		d.log.Warn("somebody has a second session; the first one stays disconnected", append(fields, zap.Stringer("is", r.Account), zap.Stringers("earlier", r.Earlier))...)
	case audit.IdleWarned:
		d.log.Info("warned an idle user", append(fields, zap.Stringer("session", r.Decision.Idle.Ref()))...)
	case audit.IdleDisconnected:
		d.log.Info("disconnected an idle user", append(fields, zap.Stringer("session", r.Decision.Idle.Ref()))...)
	case audit.IdleSpared:
		d.log.Info("an idle user stays", append(fields, zap.Stringer("session", r.Decision.Idle.Ref()), zap.String("because", r.Error))...)
	case audit.IdleFailed:
		d.log.Warn("an idle user could not be disconnected", append(fields, zap.Stringer("session", r.Decision.Idle.Ref()), zap.String("error", r.Error))...)
	case audit.Confirmed:
		d.log.Debug("session seen", append(fields, zap.Stringer("is", r.Account))...)
	default:
		if r.Decision.Kind == placement.WaitForSlot {
			d.log.Info("waits", fields...)
			return
		}
		d.log.Info("decided", append(fields, zap.Stringer("kind", r.Decision.Kind))...)
	}
}

// orders are an operator's orders, for the log.
var orders = map[audit.Event]string{
	audit.ModeSet:   "an operator has set the eviction mode",
	audit.KeepSet:   "an operator keeps a session",
	audit.KeepEnded: "an operator no longer keeps a session",
	audit.DrainSet:  "an operator has set whether a host is drained",

	audit.MessageShown: "an operator has sent a message to a session",
	audit.Reloaded:     "the configuration was read anew",
}

func orderFields(r audit.Record) []zap.Field {
	fields := []zap.Field{zap.String("by", r.By)}
	if r.Session != nil {
		fields = append(fields, zap.Stringer("session", r.Session), zap.Stringer("account", r.Account))
	}
	if r.Host != "" {
		fields = append(fields, zap.String("host", r.Host))
	}
	if r.Setting != "" {
		fields = append(fields, zap.String("setting", r.Setting))
	}
	if !r.Until.IsZero() {
		fields = append(fields, zap.Time("until", r.Until))
	}
	if r.Error != "" {
		fields = append(fields, zap.String("error", r.Error))
	}
	return fields
}
