// Package live passes events on to any number of readers, slow ones among them,
// without ever waiting for one: the newest events are kept once for all, each reader
// remembers only how far it has come, and whoever falls behind is told how many it
// has missed.
package live

import (
	"context"
	"errors"
	"sync"
)

// ErrFull says that there are as many readers as a Hub takes.
var ErrFull = errors.New("too many are listening already")

// Event is one event of a stream.
type Event struct {
	// Seq counts the events of a Hub from 1.
	Seq uint64
	// Kind is the name of the event in the stream: letters and dashes.
	Kind string
	// Data is what a reader gets, in one piece; it is called at most once for all
	// readers, and only if there is one.
	Data func() []byte
}

// Hub keeps the newest events. Make one with NewHub. Its methods may be called at
// any time from anywhere.
type Hub struct {
	most int // readers

	mu      sync.Mutex
	ring    []Event
	next    uint64 // Seq of the next event
	readers int
	wake    chan struct{} // closed when there is news; nil while nobody waits
}

// NewHub returns a Hub that keeps the newest keep events for at most readers readers.
func NewHub(keep, readers int) *Hub {
	return &Hub{most: readers, ring: make([]Event, max(1, keep)), next: 1}
}

// Publish adds an event. It never waits, and costs the same however many read.
func (h *Hub) Publish(kind string, data func() []byte) {
	e := Event{Kind: kind, Data: sync.OnceValue(data)}
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Seq = h.next
	h.next++
	h.ring[e.Seq%uint64(len(h.ring))] = e
	if h.wake != nil {
		close(h.wake)
		h.wake = nil
	}
}

// Last is the Seq of the newest event, 0 if there was none.
func (h *Hub) Last() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next - 1
}

// Readers is how many read now.
func (h *Hub) Readers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readers
}

// Read returns a Reader of all events behind the one with Seq after: 0 for all that
// are kept, Last for those to come. The error is ErrFull. Close the Reader.
func (h *Hub) Read(after uint64) (*Reader, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers >= h.most {
		return nil, ErrFull
	}
	h.readers++
	if after >= h.next { // of an earlier life of the broker
		after = h.next - 1
	}
	return &Reader{hub: h, at: after + 1}, nil
}

// Reader is one reader of a Hub, for one goroutine.
type Reader struct {
	hub  *Hub
	at   uint64 // Seq of the next event to read
	once sync.Once
}

// Next waits for events and returns all that there are, the oldest first, and how
// many were missed before them. The error is that of ctx.
func (r *Reader) Next(ctx context.Context) (events []Event, missed uint64, err error) {
	for {
		h := r.hub
		h.mu.Lock()
		if r.at < h.next {
			if oldest := h.next - min(h.next-1, uint64(len(h.ring))); r.at < oldest {
				missed = oldest - r.at
				r.at = oldest
			}
			for ; r.at < h.next; r.at++ {
				events = append(events, h.ring[r.at%uint64(len(h.ring))])
			}
			h.mu.Unlock()
			return events, missed, nil
		}
		if h.wake == nil {
			h.wake = make(chan struct{})
		}
		wake := h.wake
		h.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Close frees the reader's place. Twice is harmless.
func (r *Reader) Close() {
	r.once.Do(func() {
		r.hub.mu.Lock()
		defer r.hub.mu.Unlock()
		r.hub.readers--
	})
}
