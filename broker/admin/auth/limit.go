package auth

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
)

// So many wrong passwords within tries.window close the door for the rest of it: for
// one address, and for one name from wherever. The second is larger, so that a
// stranger who knows a name does not keep its owner out with a few tries.
const (
	triesPerAddress = 10
	triesPerName    = 50
	triesWindow     = 15 * time.Minute
	triesRemembered = 20000
	// checksAtOnce bounds the passwords that are checked at the same time, since each
	// takes 19 MB and most of a core.
	checksAtOnce = 2
)

// tries counts wrong passwords. A try is counted before the password is checked
// and taken back if it was right, so that many at once are no way around.
type tries struct {
	mu sync.Mutex
	by *expirable.LRU[string, *tried]
}

type tried struct {
	n     int
	since time.Time
}

func newTries() *tries {
	return &tries{by: expirable.NewLRU[string, *tried](triesRemembered, nil, 0)}
}

func tryKeys(from netip.Addr, name string) map[string]int {
	from = from.Unmap()
	if from.Is6() { // who has one address of a /64 has them all
		if p, err := from.WithZone("").Prefix(64); err == nil {
			from = p.Addr()
		}
	}
	return map[string]int{"address:" + from.String(): triesPerAddress, "name:" + strings.ToLower(name): triesPerName}
}

// begin counts a try. If there were too many, wait is how long until the next one.
func (t *tries) begin(from netip.Addr, name string, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := tryKeys(from, name)
	for k, most := range keys {
		if x, ok := t.by.Get(k); ok && now.Sub(x.since) < triesWindow && x.n >= most {
			wait = max(wait, triesWindow-now.Sub(x.since))
		}
	}
	if wait > 0 {
		return wait
	}
	for k := range keys {
		x, ok := t.by.Get(k)
		if !ok || now.Sub(x.since) >= triesWindow {
			x = &tried{since: now}
			t.by.Add(k, x)
		}
		x.n++
	}
	return 0
}

// right takes a try back.
func (t *tries) right(from netip.Addr, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range tryKeys(from, name) {
		if x, ok := t.by.Get(k); ok && x.n > 0 {
			x.n--
		}
	}
}
