package rdpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
	"github.com/rdpbroker/rdpbroker/rdpproxy/tlswatch"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// errNoCredSSP says that a host lets the client in without its credentials, so that
// nothing can be known of them from outside.
var errNoCredSSP = errors.New("the host asks for no credentials before the session (NLA)")

// answer is a host's Connection Confirm, which the client has not seen yet.
type answer struct {
	packet []byte
	proof  *proof // nil if there is nothing to wait for: the host has refused
}

// question sends the request to the host of a route with Accepted and reads its answer,
// while the client waits. The error is errNoCredSSP if the host has chosen a
// security protocol under which nothing can be proven.
func (t *task) question(ctx context.Context, request []byte, host net.Conn, release func(), accepted func(context.Context) error) (*answer, error) {
	if t.cfg.AnswerWait > 0 { // the dial does not count as in flight for longer
		defer time.AfterFunc(t.cfg.AnswerWait, release).Stop()
	}
	defer release()
	deadline := time.Time{}
	if d := t.cfg.ConfirmTimeout; d > 0 {
		deadline = time.Now().Add(d)
	}
	_ = host.SetDeadline(deadline) // on failure so does the write
	stop := context.AfterFunc(ctx, func() { _ = host.SetDeadline(past()) })
	defer stop()
	if _, err := host.Write(request); err != nil {
		return nil, fmt.Errorf("sending the request: %w", err)
	}
	packet, err := x224.ReadTPKT(host, x224.MaxPacket)
	if err != nil {
		return nil, fmt.Errorf("waiting for the host's answer: %w", err)
	}
	confirm, err := x224.ParseConfirm(packet)
	if err != nil || confirm.Failure {
		return &answer{packet: packet}, nil // a no in one form or another; the host closes
	}
	switch protocol, _ := confirm.Selected(); protocol {
	case x224.ProtocolHybrid, x224.ProtocolHybridEx:
		w := tlswatch.New(protocol == x224.ProtocolHybridEx)
		return &answer{packet, &proof{watcher: w, accepted: accepted}}, nil
	}
	return nil, errNoCredSSP
}

// unanswered ends a route whose host gave no answer of use, and reports whether the
// router is to be asked once more.
func (t *task) unanswered(req *Request, rt Route, err error) (again bool) {
	out := Outcome{Relay: relay.Result{Err: err, Closer: relay.CloserHost}, Duration: time.Since(t.accepted)}
	rt.Held.Done(out)
	if errors.Is(err, errNoCredSSP) && req.Unproven == "" {
		req.Unproven = rt.Host
		return true
	}
	t.p.observe.Refused(t.listener.Name, RefusedUnreachable)
	t.logEnd(rt.relayed(), "no use of the host's answer", out)
	return false
}

// goOn relays to a host that has answered the request: everything behind it.
func (t *task) goOn(o *x224.Opening, host net.Conn, early []byte, ans *answer) {
	_ = host.SetDeadline(time.Time{})
	answered, _ := t.nc.Write(ans.packet) // a client that is gone: the relay finds out
	already := relay.Result{ToHost: int64(len(o.Request.Raw)), ToClient: int64(answered)}
	var w *relay.Watch
	if ans.proof != nil {
		w = ans.proof.watch()
	}
	if len(early) > 0 && w != nil {
		if _, err := w.FromClient(t.ctx, early); err != nil {
			_, _ = host.Close(), t.nc.Close()
			t.cancel(nil)
			already.Err, already.Closer = err, relay.CloserWatch
			t.over(already)
			return
		}
	}
	t.relay(host, func() {}, early, already, w)
}

// proof waits for a host to accept its client's credentials.
type proof struct {
	accepted func(context.Context) error

	mu      sync.Mutex
	watcher *tlswatch.Watcher
}

// watch is what the relay is to call. Until it is known that the host has accepted
// or refused, both directions pass through it; a connection of which it cannot be
// known is cut.
func (p *proof) watch() *relay.Watch {
	return &relay.Watch{FromClient: p.fromClient, FromHost: p.fromHost}
}

func (p *proof) fromHost(_ context.Context, b []byte) (more bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.watcher.Host(b) {
	case tlswatch.Undecided:
		return true, nil
	case tlswatch.Unknown:
		return false, p.unknown()
	}
	return false, nil
}

// fromClient holds the first thing that the client sends after it was accepted,
// for as long as accepted takes.
func (p *proof) fromClient(ctx context.Context, b []byte) (more bool, err error) {
	switch verdict, err := p.client(b); verdict {
	case tlswatch.Undecided, tlswatch.Accepted:
		return true, nil
	case tlswatch.Unknown:
		return false, err
	case tlswatch.Refused:
		return false, nil
	}
	return false, p.accepted(ctx)
}

func (p *proof) client(b []byte) (tlswatch.Verdict, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.watcher.Client(b)
	if v == tlswatch.Unknown {
		return v, p.unknown()
	}
	return v, nil
}

func (p *proof) unknown() error {
	return fmt.Errorf("it cannot be told whether the host accepts the credentials: %s", p.watcher.Why())
}
