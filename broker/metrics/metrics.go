// Package metrics holds every metric of the broker: its name, what it counts,
// and its labels. All begin with rdpbroker_.
//
// Labels are bounded: farms and hosts are those of the configuration, and all
// others take one of a few words. Nothing that a client sends becomes a label.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/broker/token"
)

const namespace = "rdpbroker"

// Metrics takes what happens and keeps it for Prometheus. Its methods may be
// called from anywhere and never block.
type Metrics struct {
	reg   prometheus.Registerer
	kinds *words

	accepted     prometheus.Counter
	open         prometheus.Gauge
	refused      *prometheus.CounterVec // kind
	relayed      *prometheus.CounterVec // direction
	dialFailures *prometheus.CounterVec // host
	tokens       *prometheus.CounterVec // farm, verdict

	admission  *prometheus.HistogramVec // farm
	decisions  *prometheus.CounterVec   // farm, kind
	left       *prometheus.CounterVec   // farm
	confirmed  *prometheus.CounterVec   // farm
	seconds    *prometheus.CounterVec   // farm
	wait       *prometheus.HistogramVec // farm
	evictions  *prometheus.CounterVec   // farm, outcome
	evictionAt *prometheus.HistogramVec // farm

	reloadOK prometheus.Gauge
	reloadAt prometheus.Gauge
	build    *prometheus.GaugeVec // version
}

// New registers the metrics with reg, and panics if they are registered there
// already.
func New(reg prometheus.Registerer) *Metrics {
	auto := promauto.With(reg)
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}
	}
	histogram := func(name, help string, buckets ...float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}
	}
	return &Metrics{
		reg:   reg,
		kinds: newWords(maxKinds),

		accepted:     auto.NewCounter(counter("connections_accepted_total", "Connections that clients opened.")),
		open:         auto.NewGauge(gauge("connections_open", "Connections that are open now.")),
		refused:      auto.NewCounterVec(counter("refused_total", "Connections that were closed before a decision, by why: a limit, or what the client sent in place of RDP."), []string{"kind"}),
		relayed:      auto.NewCounterVec(counter("relay_bytes_total", "Bytes passed on, counted as connections end."), []string{"direction"}),
		dialFailures: auto.NewCounterVec(counter("dial_failures_total", "Connections to a host that failed."), []string{"host"}),

		tokens: auto.NewCounterVec(counter("tokens_total", "Routing tokens that clients sent, by what became of them: valid, foreign (not one of ours), unknown-key, forged, expired, other-farm, revoked."), []string{"farm", "verdict"}),

		admission: auto.NewHistogramVec(histogram("admission_seconds", "Time that the broker itself took from the client's request to a host, without waiting for a slot or a logoff.",
			.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1), []string{"farm"}),
		decisions: auto.NewCounterVec(counter("decisions_total", "Decisions, by kind: reconnect, take-over, place, make-room, wait, refuse; headroom and disconnect-idle are for nobody yet."), []string{"farm", "kind"}),
		left:      auto.NewCounterVec(counter("left_total", "Callers that went away while they waited."), []string{"farm"}),
		confirmed: auto.NewCounterVec(counter("confirmed_total", "Callers whose session was seen on the host that they were sent to."), []string{"farm"}),
		seconds:   auto.NewCounterVec(counter("second_sessions_total", "Callers that got a new session while a disconnected one of theirs was elsewhere in the farm."), []string{"farm"}),
		wait: auto.NewHistogramVec(histogram("wait_seconds", "Time from a caller's arrival until it was given a host, turned away, or left.",
			.01, .1, .5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600), []string{"farm"}),
		evictions: auto.NewCounterVec(counter("evictions_total", "Logoffs to make room, by outcome: evicted, refused, stuck, failed; shadow were only thought of."), []string{"farm", "outcome"}),
		evictionAt: auto.NewHistogramVec(histogram("eviction_seconds", "Time that a logoff took until the session was gone.",
			.25, .5, 1, 2, 5, 10, 20, 30, 60, 120, 300), []string{"farm"}),

		reloadOK: auto.NewGauge(gauge("config_last_reload_successful", "1 if the configuration was good when it was last read, else 0.")),
		reloadAt: auto.NewGauge(gauge("config_last_reload_success_timestamp_seconds", "When the configuration in force was read.")),
		build:    auto.NewGaugeVec(gauge("build_info", "Always 1; the label tells the version."), []string{"version"}),
	}
}

// Outcomes of an eviction, as the label has them.
const (
	outcomeEvicted = "evicted"
	outcomeRefused = "refused"
	outcomeStuck   = "stuck"
	outcomeFailed  = "failed"
	outcomeShadow  = "shadow"
)

var outcomes = map[audit.Event]string{
	audit.Evicted:         outcomeEvicted,
	audit.EvictionRefused: outcomeRefused,
	audit.EvictionStuck:   outcomeStuck,
	audit.EvictionFailed:  outcomeFailed,
}

// Prepare makes the counters of farms and hosts appear as 0 before anything
// happened there, so that their first step shows in rates and alerts.
func (m *Metrics) Prepare(farms, hosts []string) {
	for _, farm := range farms {
		for k := placement.Reconnect; k <= placement.Disconnect; k++ {
			m.decisions.WithLabelValues(farm, k.String())
		}
		for _, o := range []string{outcomeEvicted, outcomeRefused, outcomeStuck, outcomeFailed, outcomeShadow} {
			m.evictions.WithLabelValues(farm, o)
		}
		for _, v := range token.Verdicts() {
			m.tokens.WithLabelValues(farm, string(v))
		}
		m.left.WithLabelValues(farm)
		m.confirmed.WithLabelValues(farm)
		m.seconds.WithLabelValues(farm)
		m.wait.WithLabelValues(farm)
		m.evictionAt.WithLabelValues(farm)
		m.admission.WithLabelValues(farm)
	}
	for _, host := range hosts {
		m.dialFailures.WithLabelValues(host)
	}
	for _, d := range []string{toHost, toClient} {
		m.relayed.WithLabelValues(d)
	}
}

// Record counts one event of the audit.
func (m *Metrics) Record(r audit.Record) {
	switch r.Event {
	case audit.Decided:
		m.decided(r)
	case audit.Refused:
		m.decisions.WithLabelValues(r.Farm, placement.Refuse.String()).Inc()
		m.wait.WithLabelValues(r.Farm).Observe(r.Took.Seconds())
	case audit.Left:
		m.left.WithLabelValues(r.Farm).Inc()
		m.wait.WithLabelValues(r.Farm).Observe(r.Took.Seconds())
	case audit.Confirmed:
		m.confirmed.WithLabelValues(r.Farm).Inc()
	case audit.SecondSession:
		m.seconds.WithLabelValues(r.Farm).Inc()
	}
	if outcome, ok := outcomes[r.Event]; ok {
		m.evictions.WithLabelValues(r.Farm, outcome).Inc()
		if r.Event == audit.Evicted {
			m.evictionAt.WithLabelValues(r.Farm).Observe(r.Took.Seconds())
		}
	}
}

func (m *Metrics) decided(r audit.Record) {
	m.decisions.WithLabelValues(r.Farm, r.Decision.Kind.String()).Inc()
	if k := r.Decision.Kind; k != placement.WaitForSlot && k != placement.KeepFree && k != placement.Disconnect { // a wait that has only begun, and nobody's
		m.wait.WithLabelValues(r.Farm).Observe(r.Took.Seconds())
	}
	if r.Decision.Would != nil {
		m.evictions.WithLabelValues(r.Farm, outcomeShadow).Inc()
	}
}

// Token counts a routing token by its verdict, one of token.Verdicts.
func (m *Metrics) Token(farm, verdict string) { m.tokens.WithLabelValues(farm, verdict).Inc() }

// Admitted counts an admission that took the broker itself d.
func (m *Metrics) Admitted(farm string, d time.Duration) {
	m.admission.WithLabelValues(farm).Observe(d.Seconds())
}

// Reloaded says that the configuration was read at this time, and whether it was good.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	if !ok {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadAt.Set(float64(at.UnixNano()) / 1e9)
}

// Version says which version runs.
func (m *Metrics) Version(version string) {
	m.build.Reset()
	m.build.WithLabelValues(version).Set(1)
}
