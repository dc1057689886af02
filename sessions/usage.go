package sessions

import "time"

// CPUTick is the unit of Session.CPUTime.
const CPUTick = 100 * time.Nanosecond

// usageSpan is the least time between two readings that are compared: CPU time is
// told in coarse steps, and what happens in a moment says little.
const usageSpan = time.Minute

// Usage is what a disconnected session has used lately, from two readings of it.
type Usage struct {
	// At is when the later one was read, in the broker's clock; Over the time
	// between the two.
	At   time.Time     `json:"at"`
	Over time.Duration `json:"over_ns"`
	// CPU is the share of one core: 0.02 is two percent. Negative: not known.
	CPU float64 `json:"cpu"`
	// IO is what was read and written, in bytes a second. Negative: not known.
	IO float64 `json:"io"`
}

// Meter compares the readings of one host. It is immutable; nil has seen none.
type Meter struct {
	bases map[Ref]base
	usage map[int]Usage
}

// base is the earlier one of two readings of a session.
type base struct {
	at  time.Time // in the host's clock
	cpu int64
	io  uint64
}

// Next is m after the reading r of host.
func (m *Meter) Next(host string, r *Report) *Meter {
	var next *Meter
	for _, s := range r.Sessions {
		if s.State != StateDisconnected || s.CPUTime == 0 && s.IOBytes == 0 {
			continue
		}
		now := base{at: s.WorkAt, cpu: s.CPUTime, io: s.IOBytes}
		if now.at.IsZero() {
			now.at = r.HostNow()
		}
		ref := RefOf(host, s)
		before, seen := m.base(ref)
		usage, known := m.of(s.ID)
		if span := now.at.Sub(before.at); seen && span >= usageSpan {
			usage, known = Usage{At: r.ReadAt.Add(now.at.Sub(r.HostNow())), Over: span, CPU: -1, IO: -1}, true
			if before.cpu > 0 && now.cpu >= before.cpu { // it falls when a program ends
				usage.CPU = float64(now.cpu-before.cpu) * float64(CPUTick) / float64(span)
			}
			if before.io > 0 && now.io >= before.io {
				usage.IO = float64(now.io-before.io) / span.Seconds()
			}
		} else if seen && span >= 0 {
			now = before // too soon to tell
		}
		if next == nil {
			next = &Meter{bases: map[Ref]base{}}
		}
		next.bases[ref] = now
		if seen && known {
			if next.usage == nil {
				next.usage = map[int]Usage{}
			}
			next.usage[s.ID] = usage
		}
	}
	return next
}

// Usage is what each session, by ID, has used as far as it is known. It is the
// Meter's own: read only.
func (m *Meter) Usage() map[int]Usage {
	if m == nil {
		return nil
	}
	return m.usage
}

func (m *Meter) base(ref Ref) (b base, ok bool) {
	if m == nil {
		return base{}, false
	}
	b, ok = m.bases[ref]
	return b, ok
}

func (m *Meter) of(id int) (u Usage, ok bool) {
	u, ok = m.Usage()[id]
	return u, ok
}
