package audit

import "sync"

// Ring remembers the newest records. Its methods may be called at any time from
// anywhere.
type Ring struct {
	mu      sync.Mutex
	records []Record
	next    int // where the next one goes, once records is full
}

// NewRing returns a Ring for the newest size records, at least one.
func NewRing(size int) *Ring {
	return &Ring{records: make([]Record, 0, max(1, size))}
}

// Add remembers r in place of the oldest record, if need be.
func (g *Ring) Add(r Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.records) < cap(g.records) {
		g.records = append(g.records, r)
		return
	}
	g.records[g.next] = r
	g.next = (g.next + 1) % len(g.records)
}

// Recent returns the newest n records, the newest first; fewer if there are not
// as many.
func (g *Ring) Recent(n int) []Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	size := len(g.records)
	n = max(0, min(n, size))
	out := make([]Record, n)
	for i := range out {
		out[i] = g.records[(g.next+size-1-i)%size]
	}
	return out
}
