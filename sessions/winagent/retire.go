package winagent

import (
	"context"
	"time"
)

// retire ends an agent that another one has taken over from, when the orders
// that it follows are over.
func (l *link) retire(ctx context.Context) {
	defer l.cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(longestLogoff)
	defer limit.Stop()
	for l.busy() {
		select {
		case <-look.C:
		case <-limit.C:
			return
		case <-l.ended:
			return
		case <-ctx.Done():
			return
		}
	}
	if l.deaf { // its end is that of its process
		return
	}
	select {
	case l.outgoing <- outgoing{data: []byte("quit\n")}:
	case <-l.ended:
		return
	case <-ctx.Done():
		return
	}
	limit.Reset(5 * time.Second)
	select {
	case <-l.ended:
	case <-limit.C:
	case <-ctx.Done():
	}
}

func (l *link) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}
