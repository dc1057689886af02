package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// visit is one connection of a user.
type visit struct {
	u *user
	g *granted // guarded by office.mu until the host's confirm has come

	client   net.Conn // nil: no proxy in between
	answers  *bufio.Reader
	attached *simhost.Attachment // without a proxy
	boots    int32               // of the host
}

// come asks for a desktop; nil if there is none to be had.
func (u *user) come(ctx context.Context, rnd *rand.Rand) *visit {
	o := u.o
	o.step("asks for a desktop")
	patience := o.setup.wait * 2
	if rnd.IntN(6) == 0 {
		patience = time.Duration(1 + rnd.Int64N(int64(o.setup.wait)))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cookie := u.cookie(rnd)
	var v *visit
	if rnd.IntN(4) == 0 {
		v = u.throughProxy(ctx, cookie)
	} else {
		v = u.directly(ctx, cookie, rnd)
	}
	if v == nil {
		o.step("gets none")
		return nil
	}
	v.boots = v.g.host.boots.Load()
	o.step("is sent to a host")
	return v
}

// directly asks the broker without a proxy.
func (u *user) directly(ctx context.Context, cookie string, rnd *rand.Rand) *visit {
	g, err := u.o.admit(ctx, u, identity.Hint{Client: u.addr, Cookie: cookie})
	if err != nil {
		return nil
	}
	if g.host.off.Load() || rnd.IntN(25) == 0 {
		u.o.count("dials that failed")
		g.close(errors.New("connection refused"))
		return nil
	}
	return &visit{u: u, g: g}
}

// throughProxy sends a real connection request.
func (u *user) throughProxy(ctx context.Context, cookie string) *visit {
	o := u.o
	v := &visit{u: u}
	o.mu.Lock()
	o.port = o.port%50000 + 1
	from := netip.AddrPortFrom(u.addr, 10000+o.port)
	o.clients[from] = v
	o.counts["asked by X.224"]++
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.clients, from)
		o.mu.Unlock()
	}()
	c, err := o.net.Dial(ctx, from, listenAddr.String())
	if err != nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	req := x224.Request{Negotiation: &x224.Negotiation{Protocols: x224.ProtocolSSL | x224.ProtocolHybrid}}
	if cookie != "" {
		req.Cookie, req.HasCookie = cookie, true
	}
	_, _ = c.Write(req.Append(nil)) // if that fails, so does the answer
	answer, err := x224.ReadTPKT(c, x224.MaxPacket)
	if err == nil {
		_, err = x224.ParseConfirm(answer)
	}
	if !stop() || err != nil {
		c.Close()
		return nil
	}
	v.client, v.answers = c, bufio.NewReader(c)
	return v
}

// logon types the password. It reports whether there is a desktop.
func (v *visit) logon() bool {
	o, h := v.u.o, v.g.host
	o.mu.Lock()
	now := time.Now()
	late := !now.Before(v.g.promise.expires) || v.g.promise.dropped
	if late || !honest(v.u, v.g.id) || h.unseen {
		h.taint(now, o)
	}
	o.mu.Unlock()
	kind, refusal := v.enter()
	o.mu.Lock()
	defer o.mu.Unlock()
	if kind != "" {
		o.counts["logged on: "+kind]++
		return true
	}
	if refusal == nil { // the line is cut
		o.counts["lost before the logon"]++
		return false
	}
	o.counts["turned away by the host: "+string(refusal.Reason)]++
	excused := late || o.stale(h, now) || v.g.stale || !honest(v.u, v.g.id) || now.Before(h.taintedUntil)
	switch refusal.Reason {
	case simhost.ReasonFull:
		if !excused {
			o.wrong("%s, who said %q (%s), was sent to %s (%s: %s) %s ago, and it is full: %s", v.u.account, v.g.id.Said, v.g.id.Confidence, h.name,
				v.g.assignment.Decision.Kind, v.g.assignment.Decision.Reason, now.Sub(v.g.promise.made), o.describe(h))
		}
	case simhost.ReasonBusy:
		if _, exact := v.g.id.Account(); !exact {
			break // whoever may be several is not kept from the hosts of all of them
		}
		for id, s := range h.truth {
			if s.account == v.u.account && s.leaving == simhost.CauseManagement && !s.lost && s.since.Before(v.g.promise.made) && v.g.id.CouldBe(s.account) &&
				now.Sub(s.since) < o.setup.hardLimit {
				o.wrong("%s was sent to %s, where their session %d was being logged off since %s: %s", v.u.account, h.name, id, now.Sub(s.since), o.describe(h))
			}
		}
	}
	return false
}

func (h *host) taint(now time.Time, o *office) {
	h.taintedUntil = latest(h.taintedUntil, now.Add(o.setup.reservation+o.setup.softLimit+linger+o.setup.lag))
}

// stale reports whether h was read so long ago that nobody is sent there but to their own
// session, which it may have no more. It needs mu.
func (o *office) stale(h *host, now time.Time) bool {
	return !o.observed.Host(h.name).Fresh(now)
}

// describe tells what is true of h, and what is promised. It needs mu.
func (o *office) describe(h *host) string {
	now := time.Now()
	var b strings.Builder
	for id, s := range h.truth {
		fmt.Fprintf(&b, "\n\t\tsession %d of %s, active %v, leaving %q, since %s", id, s.account, s.active, s.leaving, now.Sub(s.since))
	}
	for _, p := range o.promises {
		if p.host == h && o.holds(p, now) {
			fmt.Fprintf(&b, "\n\t\tpromised to %q %v %s ago (%d), own %v, %d connections", p.who.Said, p.who.Accounts, now.Sub(p.made), p.id, p.own, p.conns)
		}
	}
	fmt.Fprintf(&b, "\n\t\t%s", reading(o.observed.Host(h.name)))
	fmt.Fprintf(&b, "\n\t\t%s", strings.Join(h.story, "\n\t\t"))
	return b.String()
}

// reading is what a host was read as.
func reading(st *sessions.HostState) string {
	if st.Report == nil {
		return st.Problem
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s ago, %s:", time.Since(st.Report.ReadAt), st.Problem)
	for _, s := range st.Report.Sessions {
		if s.HasUser() {
			fmt.Fprintf(&b, " %d %s %s,", s.ID, s.Account.User, s.State)
		}
	}
	return b.String()
}

// enter is what the host says to a logon: how, or why not, or nothing.
func (v *visit) enter() (kind string, refusal *simhost.LogonError) {
	if v.boots != v.g.host.boots.Load() { // it has restarted, and cut all lines
		return "", nil
	}
	if v.client == nil {
		a, err := v.g.host.model.Logon(v.u.account, "", v.u.addr, "")
		if err != nil {
			errors.As(err, &refusal)
			return "", refusal
		}
		v.attached = a
		return string(a.Kind), nil
	}
	fmt.Fprintf(v.client, "logon %s %s\n", v.u.account, v.u.addr)
	line, err := v.answers.ReadString('\n')
	if err != nil {
		return "", nil
	}
	host, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if host != v.g.host.name {
		v.u.o.t.Errorf("sent to %s, arrived at %s", v.g.host.name, host)
	}
	if why, refused := strings.CutPrefix(rest, "refused "); refused {
		for _, r := range []simhost.LogonReason{simhost.ReasonBusy, simhost.ReasonDisabled, simhost.ReasonDraining, simhost.ReasonFull} {
			if strings.Contains(why, "("+string(r)+")") {
				return "", &simhost.LogonError{Reason: r}
			}
		}
	}
	return rest, nil
}

// leave closes the window. The session, if there is one, stays.
func (v *visit) leave() {
	if v.client != nil {
		v.client.Close()
		return
	}
	if v.attached != nil {
		v.attached.Disconnect()
	}
	v.g.close(nil)
}

// logoff ends the session as its user does.
func (v *visit) logoff() {
	if v.client != nil {
		fmt.Fprintln(v.client, "logoff")
		_, _ = v.answers.ReadString('\n') // the end
		v.client.Close()
		return
	}
	v.attached.Logoff()
	v.g.close(nil)
}

// lose cuts the line. The host may notice much later than the broker.
func (v *visit) lose(notice time.Duration) {
	if v.client != nil {
		v.client.Close()
		return
	}
	v.g.close(nil)
	time.Sleep(notice)
	v.attached.Disconnect()
}

// live is u's day.
func (u *user) live(ctx context.Context, rnd *rand.Rand) {
	o := u.o
	nap := func(most time.Duration) { sleep(ctx, time.Duration(1+rnd.Int64N(int64(most)))) }
	for nap(time.Minute); ctx.Err() == nil; nap(30 * time.Second) {
		if rnd.IntN(8) == 0 {
			u.goAround(ctx, rnd)
			continue
		}
		v := u.come(ctx, rnd)
		if v == nil {
			continue
		}
		switch rnd.IntN(12) {
		case 0: // thinks better of it
			nap(20 * time.Second)
			v.leave()
			o.step("leaves before the logon")
			continue
		case 1: // the client opens a second connection, and drops the first
			nap(3 * time.Second)
			second := u.come(ctx, rnd)
			v.leave()
			if v = second; v == nil {
				continue
			}
		case 2: // cannot remember the password
			nap(2 * o.setup.reservation)
		default:
			nap(10 * time.Second)
		}
		if !v.logon() {
			v.leave()
			o.step("is not let in")
			continue
		}
		o.step("logs on")
		nap(time.Minute)
		switch n := rnd.IntN(10); {
		case n < 6:
			v.leave()
			o.step("disconnects")
		case n < 8:
			v.logoff()
			o.step("logs off")
		default:
			v.lose(time.Duration(rnd.Int64N(int64(30 * time.Second))))
			o.step("loses the line")
		}
	}
}

// goAround connects to a session past the broker.
func (u *user) goAround(ctx context.Context, rnd *rand.Rand) {
	o := u.o
	var at *host
	o.mu.Lock()
	for _, h := range o.hosts {
		if _, s := h.of(u.account); s != nil && !h.off.Load() && at == nil {
			at = h
			if !h.counts {
				h.taint(time.Now(), o)
			}
		}
	}
	o.mu.Unlock()
	if at == nil {
		return
	}
	a := u.reconnect(at)
	o.step("connects past the broker")
	if a == nil {
		return
	}
	sleep(ctx, time.Duration(1+rnd.Int64N(int64(time.Minute))))
	a.Disconnect()
	o.step("disconnects past the broker")
}

func (u *user) reconnect(h *host) *simhost.Attachment {
	a, err := h.model.Logon(u.account, "", u.addr, "")
	if err != nil {
		return nil
	}
	if a.Kind == simhost.AttachedNew { // it had ended in between
		u.o.mu.Lock()
		h.taint(time.Now(), u.o)
		u.o.mu.Unlock()
	}
	return a
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
