// Package metrics holds every metric of the broker: its name, what it counts,
// and its labels. All begin with rdpbroker_.
//
// Labels are bounded: farms and hosts are those of the configuration, and all
// others take one of a few words. Nothing that a client sends becomes a label.
package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rdpbroker/rdpbroker/broker/audit"
)

const namespace = "rdpbroker"

// Metrics takes what happens and keeps it for Prometheus. Its methods may be
// called from anywhere and never block: what is counted for every connection was
// looked up once, by Prepare, and is an atomic addition then.
type Metrics struct {
	reg prometheus.Registerer
	vec vectors

	accepted         prometheus.Counter
	open             prometheus.Gauge
	toHost, toClient prometheus.Counter

	known atomic.Pointer[known]
	kinds *words // of refused connections that Prepare does not know

	reloadOK prometheus.Gauge
	reloadAt prometheus.Gauge
	build    *prometheus.GaugeVec // version
}

// vectors are the metrics with labels.
type vectors struct {
	refused      *prometheus.CounterVec // kind
	relayed      *prometheus.CounterVec // direction
	relays       *prometheus.GaugeVec   // host
	dialFailures *prometheus.CounterVec // host
	tokens       *prometheus.CounterVec // farm, verdict

	admission  *prometheus.HistogramVec // farm
	decisions  *prometheus.CounterVec   // farm, kind, reason
	left       *prometheus.CounterVec   // farm
	confirmed  *prometheus.CounterVec   // farm
	seconds    *prometheus.CounterVec   // farm
	wait       *prometheus.HistogramVec // farm
	evictions  *prometheus.CounterVec   // farm, outcome
	evictionAt *prometheus.HistogramVec // farm
}

// Directions, as the label has them.
const (
	toHost   = "to_host"
	toClient = "to_client"
)

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
	m := &Metrics{
		reg:   reg,
		kinds: newWords(maxKinds),
		vec: vectors{
			refused:      auto.NewCounterVec(counter("refused_total", "Connections that were closed before a decision, by why: a limit, or what the client sent in place of RDP."), []string{"kind"}),
			relayed:      auto.NewCounterVec(counter("relay_bytes_total", "Bytes passed on, counted as connections end."), []string{"direction"}),
			relays:       auto.NewGaugeVec(gauge("relays_open", "Connections between a client and a host that are open now."), []string{"host"}),
			dialFailures: auto.NewCounterVec(counter("dial_failures_total", "Connections to a host that failed."), []string{"host"}),
			tokens:       auto.NewCounterVec(counter("tokens_total", "Routing tokens that clients sent, by what became of them: valid, foreign (not one of ours), unknown-key, forged, expired, other-farm, revoked."), []string{"farm", "verdict"}),
			admission: auto.NewHistogramVec(histogram("admission_seconds", "Time that the broker itself took from the client's request to a host, without waiting for a slot or a logoff.",
				.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1), []string{"farm"}),
			decisions: auto.NewCounterVec(counter("decisions_total", "Decisions, by kind (reconnect, take-over, place, make-room, wait, refuse; headroom and disconnect-idle are for nobody yet) and the class of their reason."), []string{"farm", "kind", "reason"}),
			left:      auto.NewCounterVec(counter("left_total", "Callers that went away while they waited."), []string{"farm"}),
			confirmed: auto.NewCounterVec(counter("confirmed_total", "Callers whose session was seen on the host that they were sent to."), []string{"farm"}),
			seconds:   auto.NewCounterVec(counter("second_sessions_total", "Callers that got a new session while a disconnected one of theirs was elsewhere in the farm."), []string{"farm"}),
			wait: auto.NewHistogramVec(histogram("wait_seconds", "Time from a caller's arrival until it was given a host, turned away, or left.",
				.01, .1, .5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600), []string{"farm"}),
			evictions: auto.NewCounterVec(counter("evictions_total", "Logoffs to make room, by outcome: evicted, refused, stuck, failed; shadow were only thought of."), []string{"farm", "outcome"}),
			evictionAt: auto.NewHistogramVec(histogram("eviction_seconds", "Time that a logoff took until the session was gone.",
				.25, .5, 1, 2, 5, 10, 20, 30, 60, 120, 300), []string{"farm"}),
		},

		accepted: auto.NewCounter(counter("connections_accepted_total", "Connections that clients opened.")),
		open:     auto.NewGauge(gauge("connections_open", "Connections that are open now.")),

		reloadOK: auto.NewGauge(gauge("config_last_reload_successful", "1 if the configuration was good when it was last read, else 0.")),
		reloadAt: auto.NewGauge(gauge("config_last_reload_success_timestamp_seconds", "When the configuration in force was read.")),
		build:    auto.NewGaugeVec(gauge("build_info", "Always 1; the label tells the version."), []string{"version"}),
	}
	m.toHost, m.toClient = m.vec.relayed.WithLabelValues(toHost), m.vec.relayed.WithLabelValues(toClient)
	m.known.Store(&known{})
	return m
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
