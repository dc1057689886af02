package daemon

import (
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/config"
)

// ballast is garbage that may lie about before anybody looks for it: it counts as in
// use, and is never touched, so that it takes no memory by itself. Without it a broker
// of a small farm, which uses 10 MB, would collect garbage each 2,000 connections.
var ballast []byte

const (
	// ballastAlone is that of a broker without a host.
	ballastAlone = 24 << 20
	// perHost is what the broker uses for a host with 50 sessions, about.
	perHost = 100 << 10
)

// SpareMemory is for a process that is a broker as cfg has it and little else: garbage
// is collected when it is half of what is in use, not as much again, which costs a
// large farm some hundredths of a core and saves it a quarter of its memory; and not
// before it is some 15 MB, which costs a small farm these, in a crowd. Whoever has set
// GOGC or GOMEMLIMIT knows better.
func SpareMemory(cfg *config.Config) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	hosts := 0
	for _, f := range cfg.Farms {
		hosts += len(f.Hosts)
	}
	ballast = make([]byte, max(0, ballastAlone-hosts*perHost))
	debug.SetGCPercent(50)
}

const (
	// crowd is how many connections leave enough garbage to look for.
	crowd = 500
	// quiet is how long nobody may have come for a crowd to be over.
	quiet = 500 * time.Millisecond
)

// lull gives memory back to the system when a crowd has come and is over: an office
// that sits at its desks needs none of what the morning took. It sleeps while nobody
// comes.
type lull struct {
	came    atomic.Int64 // since memory was given back
	waiting atomic.Bool
	release func()
}

func newLull() *lull { return &lull{release: debug.FreeOSMemory} }

// stir says that a connection has come. It costs next to nothing.
func (l *lull) stir() {
	if l.came.Add(1) >= crowd && !l.waiting.Load() && l.waiting.CompareAndSwap(false, true) {
		l.wait()
	}
}

func (l *lull) wait() {
	seen := l.came.Load()
	time.AfterFunc(quiet, func() {
		if l.came.Load() != seen {
			l.wait()
			return
		}
		l.came.Store(0)
		l.waiting.Store(false)
		l.release()
	})
}
