package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/broker/token"
)

// known are the metrics that were looked up beforehand. It is immutable.
type known struct {
	farms   map[string]*farm
	hosts   map[string]*host
	refused map[string]prometheus.Counter // by kind
}

// farm are the metrics of one farm.
type farm struct {
	decisions map[reason]prometheus.Counter
	evictions map[string]prometheus.Counter // by outcome
	tokens    map[string]prometheus.Counter // by verdict

	left, confirmed, seconds    prometheus.Counter
	wait, evictionAt, admission prometheus.Observer
}

// reason is what decisions are counted by.
type reason struct {
	kind  placement.Kind
	class placement.Class
}

// host are the metrics of one host.
type host struct {
	relays       prometheus.Gauge
	dialFailures prometheus.Counter
}

// Prepare makes the metrics of farms, of hosts, and of connections refused for
// these kinds of reasons appear as 0 before anything happened there, so that their
// first step shows in rates and alerts. Those of other farms and hosts are gone.
func (m *Metrics) Prepare(farms, hosts, refused []string) {
	k := &known{farms: map[string]*farm{}, hosts: map[string]*host{}, refused: map[string]prometheus.Counter{}}
	for _, name := range farms {
		k.farms[name] = m.lookUpFarm(name)
	}
	for _, name := range hosts {
		k.hosts[name] = m.lookUpHost(name)
	}
	for _, kind := range refused {
		k.refused[kind] = m.vec.refused.WithLabelValues(kind)
	}
	old := m.known.Swap(k)
	for name := range old.farms {
		if k.farms[name] == nil {
			m.vec.forgetFarm(name)
		}
	}
	for name := range old.hosts {
		if k.hosts[name] == nil {
			m.vec.relays.DeleteLabelValues(name)
			m.vec.dialFailures.DeleteLabelValues(name)
		}
	}
}

func (m *Metrics) lookUpFarm(name string) *farm {
	f := &farm{
		decisions: map[reason]prometheus.Counter{}, evictions: map[string]prometheus.Counter{}, tokens: map[string]prometheus.Counter{},
		left: m.vec.left.WithLabelValues(name), confirmed: m.vec.confirmed.WithLabelValues(name), seconds: m.vec.seconds.WithLabelValues(name),
		wait: m.vec.wait.WithLabelValues(name), evictionAt: m.vec.evictionAt.WithLabelValues(name), admission: m.vec.admission.WithLabelValues(name),
	}
	for k := placement.Reconnect; k <= placement.Disconnect; k++ {
		for _, c := range k.Classes() {
			f.decisions[reason{k, c}] = m.decision(name, k, c)
		}
	}
	// Whoever is turned away has waited, or may not.
	for _, c := range placement.WaitForSlot.Classes() {
		f.decisions[reason{placement.Refuse, c}] = m.decision(name, placement.Refuse, c)
	}
	for _, o := range []string{outcomeEvicted, outcomeRefused, outcomeStuck, outcomeFailed, outcomeShadow} {
		f.evictions[o] = m.vec.evictions.WithLabelValues(name, o)
	}
	for _, v := range token.Verdicts() {
		f.tokens[string(v)] = m.vec.tokens.WithLabelValues(name, string(v))
	}
	return f
}

func (m *Metrics) decision(farm string, k placement.Kind, c placement.Class) prometheus.Counter {
	return m.vec.decisions.WithLabelValues(farm, k.String(), string(c))
}

func (m *Metrics) lookUpHost(name string) *host {
	return &host{relays: m.vec.relays.WithLabelValues(name), dialFailures: m.vec.dialFailures.WithLabelValues(name)}
}

func (v *vectors) forgetFarm(name string) {
	l := prometheus.Labels{"farm": name}
	for _, vec := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{v.tokens, v.admission, v.decisions, v.left, v.confirmed, v.seconds, v.wait, v.evictions, v.evictionAt} {
		vec.DeletePartialMatch(l)
	}
}

// farm is what was looked up for a farm. One that Prepare was not told of, which a
// reload has just taken away, counts nowhere.
func (m *Metrics) farm(name string) *farm { return m.known.Load().farms[name] }

// Record counts one event of the audit.
func (m *Metrics) Record(r audit.Record) {
	f := m.farm(r.Farm)
	if f == nil {
		return
	}
	switch r.Event {
	case audit.Decided:
		f.decided(&r)
	case audit.Refused:
		f.count(reason{placement.Refuse, r.Decision.Class})
		f.wait.Observe(r.Took.Seconds())
	case audit.Left:
		f.left.Inc()
		f.wait.Observe(r.Took.Seconds())
	case audit.Confirmed:
		f.confirmed.Inc()
	case audit.SecondSession:
		f.seconds.Inc()
	}
	if outcome, ok := outcomes[r.Event]; ok {
		f.evictions[outcome].Inc()
		if r.Event == audit.Evicted {
			f.evictionAt.Observe(r.Took.Seconds())
		}
	}
}

func (f *farm) decided(r *audit.Record) {
	f.count(reason{r.Decision.Kind, r.Decision.Class})
	switch r.Decision.Kind {
	case placement.WaitForSlot: // whose wait has only begun
	case placement.KeepFree, placement.Disconnect: // nobody's
	default:
		f.wait.Observe(r.Took.Seconds())
	}
	if r.Decision.Would != nil {
		f.evictions[outcomeShadow].Inc()
	}
}

// count counts a decision. One of a class that its kind cannot have is a mistake
// that a test of placement finds; it counts as internal then.
func (f *farm) count(r reason) {
	c := f.decisions[r]
	if c == nil {
		c = f.decisions[reason{placement.WaitForSlot, placement.ClassInternal}]
	}
	c.Inc()
}

// Token counts a routing token by its verdict, one of token.Verdicts.
func (m *Metrics) Token(farm, verdict string) {
	if f := m.farm(farm); f != nil && f.tokens[verdict] != nil {
		f.tokens[verdict].Inc()
	}
}

// Admitted counts an admission that took the broker itself d.
func (m *Metrics) Admitted(farm string, d time.Duration) {
	if f := m.farm(farm); f != nil {
		f.admission.Observe(d.Seconds())
	}
}
