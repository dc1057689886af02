package metrics

import "sync"

// Accepted counts a connection that a client opened. Closed must follow.
func (m *Metrics) Accepted() {
	m.accepted.Inc()
	m.open.Inc()
}

// Closed counts the end of a connection that Accepted has counted.
func (m *Metrics) Closed() { m.open.Dec() }

// Refused counts a connection that was closed before a decision. Kind is one of
// those that Prepare was given, or another short word; after many different ones the
// others count as "other".
func (m *Metrics) Refused(kind string) {
	c := m.known.Load().refused[kind]
	if c == nil {
		c = m.vec.refused.WithLabelValues(m.kinds.bounded(kind))
	}
	c.Inc()
}

// RelayBegan counts a connection between a client and host. RelayEnded must follow.
func (m *Metrics) RelayBegan(host string) {
	if h := m.known.Load().hosts[host]; h != nil {
		h.relays.Inc()
	}
}

// RelayEnded counts its end, and its bytes.
func (m *Metrics) RelayEnded(host string, bytesToHost, bytesToClient int64) {
	if h := m.known.Load().hosts[host]; h != nil {
		h.relays.Dec()
	}
	m.toHost.Add(float64(max(0, bytesToHost)))
	m.toClient.Add(float64(max(0, bytesToClient)))
}

// DialFailed counts a connection to host that failed.
func (m *Metrics) DialFailed(host string) {
	if h := m.known.Load().hosts[host]; h != nil {
		h.dialFailures.Inc()
	}
}

const (
	maxKinds  = 32
	otherKind = "other"
)

// words bounds the values of a label whose words come from another package.
type words struct {
	most int

	mu   sync.Mutex
	seen map[string]bool
}

func newWords(most int) *words { return &words{most: most, seen: make(map[string]bool)} }

// bounded is w, or "other" if that is no short word or there are too many already.
func (s *words) bounded(w string) string {
	if !shortWord(w) {
		return otherKind
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.seen[w] {
		if len(s.seen) >= s.most {
			return otherKind
		}
		s.seen[w] = true
	}
	return w
}

func shortWord(w string) bool {
	for _, r := range w {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return false
		}
	}
	return w != "" && len(w) <= 32
}
