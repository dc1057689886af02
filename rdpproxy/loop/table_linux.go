package loop

// Handler takes the events of one descriptor. Events are reported once for each
// change (edge-triggered): whoever is told that a descriptor can be read reads
// until it cannot, or remembers.
type Handler interface {
	Ready(l *Loop, ev Events)
}

// table knows who is behind each descriptor. The system uses the number of a closed
// descriptor for the next one, while events of the old one may wait in the same
// batch: so each registration has a generation, which its events carry, and those
// of an earlier one are dropped.
type table struct {
	slots []slot // by descriptor
}

type slot struct {
	generation int32
	handler    Handler
}

// add enters a handler for fd and returns its generation.
func (t *table) add(fd int32, h Handler) (generation int32) {
	for int(fd) >= len(t.slots) {
		t.slots = append(t.slots, make([]slot, max(64, len(t.slots)))...)
	}
	s := &t.slots[fd]
	s.generation++
	s.handler = h
	return s.generation
}

// replace gives fd another handler; its events are the same.
func (t *table) replace(fd int32, h Handler) { t.slots[fd].handler = h }

// remove is harmless for a descriptor that is not entered.
func (t *table) remove(fd int32) {
	if int(fd) < len(t.slots) {
		t.slots[fd].handler = nil
	}
}

// get is the handler for an event, nil if the event is for somebody who is gone.
func (t *table) get(fd, generation int32) Handler {
	if int(fd) >= len(t.slots) || t.slots[fd].generation != generation {
		return nil
	}
	return t.slots[fd].handler
}
