package loadgen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// noEnd is for a loop that ends otherwise.
var noEnd time.Time

// Client makes load. Its methods may not be called at the same time.
type Client struct {
	// To are the addresses to connect to, in turn: the proxy's, or those of the hosts.
	To []netip.AddrPort
	// From are the addresses to connect from, in turn; none: the system's choice.
	From []netip.Addr
	// User is the name in the cookie of connection n.
	User func(n int) string

	made int
	// requests by user: what is sent is not made while it is measured.
	requests map[string][]byte
}

// The stages of a connection of a client.
const (
	connecting = iota
	asked      // the request is sent
	open       // the host has answered
)

// errFailed says that something failed that nothing else would make sense without.
var errFailed = errors.New("a connection failed")

// session is a measurement under way.
type session struct {
	*loop
	client *Client
	// opened is called when a connection has its answer, failed when it ends before.
	opened func(*conn)
	failed func(*conn)
}

func (c *Client) session() (*session, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	if c.requests == nil {
		c.requests = map[string][]byte{}
	}
	return &session{loop: l, client: c}, nil
}

// begin begins a connection; its time counts from began.
func (s *session) begin(began time.Time) error {
	c := s.client
	n := c.made
	c.made++
	var from netip.Addr
	if len(c.From) > 0 {
		from = c.From[n%len(c.From)]
	}
	user := c.User(n)
	request := c.requests[user]
	if request == nil {
		request = (&x224.Request{Cookie: user, Negotiation: &x224.Negotiation{Protocols: 3}}).Append(nil)
		c.requests[user] = request
	}
	x, err := s.connect(from, c.To[n%len(c.To)], func(x *conn, events uint32) { s.exchange(x, events, request) })
	if err != nil {
		return err
	}
	x.began = began
	return nil
}

// exchange goes on with the X.224 exchange of x.
func (s *session) exchange(x *conn, events uint32, request []byte) {
	if x.stage == connecting {
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			s.failed(x)
			return
		}
		if _, err := unix.Write(x.fd, request); err != nil {
			s.failed(x)
			return
		}
		x.stage = asked
		s.wait(x, unix.EPOLLIN)
		return
	}
	n, err := unix.Read(x.fd, s.buf[:len(confirm)-x.got])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n == 0 {
		s.failed(x)
		return
	}
	if x.got += n; x.got == len(confirm) {
		x.stage, x.got = open, 0
		s.opened(x)
	}
}

// Connect makes connections for d, workers at a time, each of which is closed as
// soon as the host has answered.
func (c *Client) Connect(workers int, d time.Duration) (Result, error) {
	s, err := c.session()
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	var r Result
	var took times
	var broken error
	next := func(x *conn) {
		s.drop(x)
		if err := s.begin(time.Now()); err != nil {
			broken = err
		}
	}
	s.opened = func(x *conn) {
		r.Done++
		took = append(took, time.Since(x.began))
		next(x)
	}
	s.failed = func(x *conn) { r.Failed++; next(x) }
	began := time.Now()
	for range workers {
		if err := s.begin(began); err != nil {
			return r, err
		}
	}
	err = s.run(began.Add(d), func() bool { return broken != nil })
	r.For, r.P50, r.P99 = time.Since(began), took.quantile(0.5), took.quantile(0.99)
	return r, errors.Join(err, broken)
}

// ConnectAt makes perSecond connections for d, whether or not those before have
// been answered, so that a slow answer hides no other one. Each counts from when
// it was due, or, so that the timer's own delay is nobody's, from when the timer
// went off if that was within late.
func (c *Client) ConnectAt(perSecond int, d time.Duration) (Result, error) {
	s, err := c.session()
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	var r Result
	var took times
	var broken error
	s.opened = func(x *conn) {
		r.Done++
		took = append(took, time.Since(x.began))
		s.drop(x)
	}
	s.failed = func(x *conn) { r.Failed++; s.drop(x) }
	p := pace{start: time.Now(), every: time.Second / time.Duration(perSecond)}
	total := int(d / p.every)
	err = s.every(p.every, func() {
		for at, due := p.next(); due && p.n <= total; at, due = p.next() {
			if err := s.begin(at); err != nil {
				broken = err
			}
		}
	})
	if err == nil {
		err = s.run(p.start.Add(d+10*time.Second), func() bool { return broken != nil || r.Done+r.Failed == total })
	}
	r.Failed = total - r.Done // those that were never answered among them
	r.For, r.P50, r.P99 = d, took.quantile(0.5), took.quantile(0.99)
	return r, errors.Join(err, broken)
}

// late is up to when a timer that goes off late is the system's doing.
const late = 500 * time.Microsecond

// pace says what is due.
type pace struct {
	start time.Time
	every time.Duration
	n     int // that were due
}

// next is the next moment that was due, if there is one.
func (p *pace) next() (at time.Time, due bool) {
	now := time.Now()
	at = p.start.Add(time.Duration(p.n+1) * p.every)
	if now.Before(at) {
		return at, false
	}
	p.n++
	if now.Sub(at) < late {
		at = now
	}
	return at, true
}

// openAll opens n connections, a few at a time, and gives each the order.
func (s *session) openAll(n int, order byte, number uint64, ready func(*conn, uint32)) error {
	var broken error
	begun, there := 0, 0
	begin := func() {
		if begun < n && broken == nil {
			begun++
			broken = s.begin(time.Now())
		}
	}
	message := append([]byte{order}, make([]byte, orderSize-1)...)
	binary.BigEndian.PutUint64(message[1:], number)
	s.opened = func(x *conn) {
		if order != 0 {
			if _, err := unix.Write(x.fd, message); err != nil {
				broken = fmt.Errorf("order: %w", err)
			}
		}
		x.ready = ready
		there++
		begin()
	}
	s.failed = func(x *conn) { s.drop(x); broken = errFailed }
	for range min(n, 32) {
		begin()
	}
	err := s.run(time.Now().Add(2*time.Minute), func() bool { return broken != nil || there == n })
	if err == nil && broken == nil && there < n {
		err = fmt.Errorf("only %d of %d connections were opened", there, n)
	}
	return errors.Join(err, broken)
}

// Bulk reads from as many streams as fast as they come, for d. around is called
// before and after what is measured.
func (c *Client) Bulk(streams int, d time.Duration, around func()) (Result, error) {
	s, err := c.session()
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	var r Result
	err = s.openAll(streams, orderBulk, 0, func(x *conn, _ uint32) {
		// MSG_TRUNC: the kernel throws it away, so that the reader costs little.
		n, _, err := unix.Recvfrom(x.fd, s.buf, unix.MSG_TRUNC)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil || n == 0 {
			r.Failed++
			s.drop(x)
			return
		}
		r.Bytes += int64(n)
	})
	if err == nil {
		err = s.run(time.Now().Add(d/5), nil) // windows open
	}
	if err != nil {
		return r, err
	}
	r.Bytes = 0
	around()
	began := time.Now()
	err = s.run(began.Add(d), nil)
	r.For = time.Since(began)
	around()
	return r, err
}

var ping = make([]byte, pingUp)

// PingPong exchanges small messages on n connections for d, as fast as it goes, or,
// if perSecond is not 0, so many a second in all; then each counts from when it
// was due, as with ConnectAt.
func (c *Client) PingPong(n, perSecond int, d time.Duration) (Result, error) {
	s, err := c.session()
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	var r Result
	var took times
	var all []*conn
	owed := map[*conn][]time.Time{} // exchanges that are due
	measuring := false
	send := func(x *conn, at time.Time) {
		x.began, x.left = at, pingDown
		if _, err := unix.Write(x.fd, ping); err != nil {
			r.Failed++
		}
	}
	err = s.openAll(n, orderPing, 0, func(x *conn, _ uint32) {
		k, err := unix.Read(x.fd, s.buf)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil || k == 0 {
			r.Failed++
			s.drop(x)
			return
		}
		if x.left -= int64(k); x.left > 0 {
			return
		}
		now := time.Now()
		if measuring {
			r.Done++
			took = append(took, now.Sub(x.began))
		}
		if due := owed[x]; len(due) > 0 {
			owed[x] = due[1:]
			send(x, due[0])
		} else if perSecond == 0 {
			send(x, now)
		}
	})
	if err != nil {
		return r, err
	}
	for _, x := range s.conns {
		if x != nil {
			all = append(all, x)
		}
	}
	if perSecond == 0 {
		for _, x := range all {
			send(x, time.Now())
		}
	} else {
		p := pace{start: time.Now(), every: time.Second / time.Duration(perSecond)}
		err = s.every(p.every, func() {
			for at, due := p.next(); due; at, due = p.next() {
				x := all[p.n%len(all)]
				if x.left > 0 { // the one before has not been answered: it waits, and that counts
					owed[x] = append(owed[x], at)
					continue
				}
				send(x, at)
			}
		})
	}
	if err == nil {
		err = s.run(time.Now().Add(d/10), nil)
	}
	if err != nil {
		return r, err
	}
	measuring = true
	began := time.Now()
	err = s.run(began.Add(d), nil)
	r.For, r.P50, r.P99 = time.Since(began), took.quantile(0.5), took.quantile(0.99)
	return r, err
}

// Idle opens n connections that nothing is sent on, calls while, and closes them.
func (c *Client) Idle(n int, while func() error) error {
	s, err := c.session()
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.openAll(n, 0, 0, func(x *conn, _ uint32) { s.drop(x) }); err != nil {
		return err
	}
	return while()
}
