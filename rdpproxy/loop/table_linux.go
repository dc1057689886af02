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
	pages []*[page]slot // by descriptor, which all loops share: a page that none of ours is in is nil
}

const page = 256

type slot struct {
	generation int32
	handler    Handler
}

// at is the slot of fd, nil if there has never been one.
func (t *table) at(fd int32) *slot {
	if i := int(fd) / page; i < len(t.pages) && t.pages[i] != nil {
		return &t.pages[i][fd%page]
	}
	return nil
}

// add enters a handler for fd and returns its generation.
func (t *table) add(fd int32, h Handler) (generation int32) {
	s := t.at(fd)
	if s == nil {
		i := int(fd) / page
		t.pages = append(t.pages, make([]*[page]slot, max(0, i+1-len(t.pages)))...)
		t.pages[i] = new([page]slot)
		s = t.at(fd)
	}
	s.generation++
	s.handler = h
	return s.generation
}

// replace gives fd, which is entered, another handler; its events are the same.
func (t *table) replace(fd int32, h Handler) { t.at(fd).handler = h }

// remove is harmless for a descriptor that is not entered.
func (t *table) remove(fd int32) {
	if s := t.at(fd); s != nil {
		s.handler = nil
	}
}

// get is the handler for an event, nil if the event is for somebody who is gone.
func (t *table) get(fd, generation int32) Handler {
	if s := t.at(fd); s != nil && s.generation == generation {
		return s.handler
	}
	return nil
}
