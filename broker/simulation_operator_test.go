package broker_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// operate is an operator's day: they keep sessions and let them go again, drain
// hosts, switch eviction off and on, and log off whoever has been away long. In the
// end all is as it was.
func (s *simulation) operate(ctx context.Context, rnd *rand.Rand) {
	on, off := true, false
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Minute))))
		host := s.model.hosts[rnd.IntN(len(s.model.hosts))].Host.Name
		switch rnd.IntN(8) {
		case 0:
			s.b.SetEviction(mode([]placement.Mode{placement.Off, placement.Shadow, placement.Evict}[rnd.IntN(3)]), "anna")
		case 1, 2:
			s.b.SetEviction(nil, "anna")
		case 3:
			s.obeyed(s.b.Drain(host, []*bool{&on, &off, nil}[rnd.IntN(3)], "anna"))
		case 4:
			s.obeyed(s.b.Drain(host, nil, "anna"))
		case 5:
			if ref, ok := s.someSession(host, rnd, 0); ok {
				s.obeyed(s.b.Keep(ref, time.Now().Add(time.Duration(1+rnd.Int64N(int64(10*time.Minute)))), "anna"))
			}
		case 6:
			for _, k := range s.b.Kept() {
				s.obeyed(s.b.Unkeep(k.Session, "anna"))
			}
		case 7:
			if ref, ok := s.someSession(host, rnd, minDisconnected); ok {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				s.obeyed(s.b.Logoff(ctx, ref, "anna"))
				cancel()
			}
		}
	}
	s.b.SetEviction(nil, "anna")
	for _, h := range s.model.hosts {
		s.obeyed(s.b.Drain(h.Host.Name, nil, "anna"))
	}
	s.farm.Policy.Eviction.Headroom = 0
	s.b.SetConfig(s.config())
}

// obeyed fails the test if an order failed for no reason that an operator may meet.
func (s *simulation) obeyed(err error) {
	var refused *sessions.RefusedError
	var stuck *sessions.StuckError
	known := err == nil || errors.Is(err, broker.ErrNoSession) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if !known && !errors.As(err, &refused) && !errors.As(err, &stuck) && err.Error()[:len("connection reset")] != "connection reset" {
		s.t.Errorf("an order was not carried out: %v", err)
	}
}

// someSession is one on host that nobody has been at for so long; 0: any.
func (s *simulation) someSession(host string, rnd *rand.Rand, away time.Duration) (sessions.Ref, bool) {
	s.model.mu.Lock()
	defer s.model.mu.Unlock()
	h := s.model.host(host)
	if len(h.sessions) == 0 {
		return sessions.Ref{}, false
	}
	x := h.sessions[rnd.IntN(len(h.sessions))]
	if x.Account.User == "svc-backup" || away > 0 && (x.State != sessions.StateDisconnected || time.Since(x.DisconnectedAt) < away) {
		return sessions.Ref{}, false
	}
	return sessions.RefOf(host, x), true
}

// checkKept: nobody is logged off whom an operator keeps.
func (s *simulation) checkKept(ref sessions.Ref) {
	for _, k := range s.b.Kept() {
		if k.Session == ref {
			s.t.Errorf("asked to log off %s, which is kept until %s", ref, k.Until.Format(time.TimeOnly))
		}
	}
}
