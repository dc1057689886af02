package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// stormVariable makes this test binary play the hosts of a storm in place of testing.
const stormVariable = "RDPBROKER_SOAK_STORM"

// stormOrder is what kind of farm a storm comes over.
type stormOrder struct {
	Hosts int
	Seed  uint64
}

// stormAnswer is the first line that the hosts print: a line for each of them.
type stormAnswer struct {
	CA    []byte
	Hosts []stormHost
}

type stormHost struct {
	RDP, WinRM string
	Slots      int
	// Users have a disconnected session there, for more than an hour.
	Users []string
}

// stormReport is what the hosts have to say at the end.
type stormReport struct {
	// Wrongs are what must not happen.
	Wrongs []string
	// New, Back and Evicted count logons to a new session, those to one's own, and
	// sessions that the broker had logged off.
	New, Back, Evicted int
}

// After the X.224 exchange, client and host of a storm say a byte each: go on and
// log me on; you have a new session, you are back, the host is full; and at the
// end, I sign out, or (as by closing) I disconnect.
const (
	sayLogon      = 'g'
	sayNew        = 'n'
	sayBack       = 'b'
	sayFull       = 'f'
	saySignOut    = 'o'
	sayDisconnect = 'd'
)

// stormHosts are the hosts, and what is true on them.
type stormHosts struct {
	mu     sync.Mutex
	report stormReport
	homes  map[string]string // where an account has a session that has not been told to go
}

// playStorm runs hosts until in ends. A line of in asks for the report.
func playStorm(order string, in io.Reader, out io.Writer) error {
	var o stormOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	secure, err := simhost.SelfSigned(time.Now(), "farm.example")
	if err != nil {
		return err
	}
	answer := stormAnswer{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificates[0].Certificate[0]})}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	all := &stormHosts{homes: map[string]string{}}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	for i := range o.Hosts {
		h := stormHost{Slots: 2 + rng.IntN(59)}
		name := fmt.Sprintf("ts%03d", i)
		sim, err := simhost.New(simhost.Config{
			Name: name, Domain: domain, OnEvent: func(e simhost.Event) { all.event(name, e) },
			Options: simhost.Options{Slots: h.Slots, CountDisconnected: true, Logoff: simhost.LogoffPlan{Takes: 300 * time.Millisecond}},
			RDP:     simhost.RDP{TLS: secure}, // not served: rdp below is
			WinRM:   simhost.WinRM{Managers: []simhost.Manager{{Account: sessions.Account{Domain: domain, User: manager}, Password: managerPassword}}, TLS: secure},
		})
		if err != nil {
			return err
		}
		for n := range h.Slots / 2 {
			user := fmt.Sprintf("h%03d-u%02d", i, n) // not nine characters: the name is whole
			h.Users = append(h.Users, user)
			all.homes[user] = name
			ago := time.Hour + time.Duration(rng.IntN(36000))*time.Second
			if err := sim.Model().Seed(simhost.Seed{Account: sessions.Account{Domain: domain, User: user}, LogonAgo: ago + time.Hour, DisconnectedAgo: ago}); err != nil {
				return err
			}
		}
		winrm, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		rdp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		h.WinRM, h.RDP = winrm.Addr().String(), rdp.Addr().String()
		answer.Hosts = append(answer.Hosts, h)
		go func() { _ = sim.Run(ctx, nil, winrm) }()
		go all.rdp(name, sim.Model(), rdp)
	}
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		all.mu.Lock()
		err := json.NewEncoder(out).Encode(all.report)
		all.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// event keeps the books. It is called with the host's model locked.
func (s *stormHosts) event(host string, e simhost.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user := e.Session.Account.User
	switch e.Kind {
	case simhost.EventLogon:
		if home := s.homes[user]; home != "" {
			s.wrong("%s got a new session on %s, and has one on %s", user, host, home)
		}
		s.homes[user] = host
		s.report.New++
	case simhost.EventReconnected:
		s.report.Back++
	case simhost.EventTookOver:
		s.wrong("%s took a session over on %s, which nobody else uses", user, host)
	case simhost.EventRefused:
		s.wrong("%s was refused by %s: %s", user, host, e.Text)
	case simhost.EventLogoffBegan:
		delete(s.homes, user)
		if e.Cause == simhost.CauseUser {
			return
		}
		s.report.Evicted++
		if ago := e.At.Sub(e.Session.DisconnectedAt); e.Session.DisconnectedAt.IsZero() || ago < time.Hour {
			s.wrong("%s was logged off %s, disconnected for %s, by %s", user, host, ago, e.Cause)
		}
	}
}

func (s *stormHosts) wrong(format string, args ...any) {
	s.report.Wrongs = append(s.report.Wrongs, fmt.Sprintf(format, args...))
}

// rdp serves the clients of one host.
func (s *stormHosts) rdp(name string, m *simhost.Model, ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if err := s.serve(m, c); err != nil && !errors.Is(err, io.EOF) {
				s.mu.Lock()
				s.wrong("%s: %v", name, err)
				s.mu.Unlock()
			}
		}()
	}
}

func (s *stormHosts) serve(m *simhost.Model, c net.Conn) error {
	o, err := x224.ReadOpening(c)
	if err != nil {
		return err
	}
	if _, err := c.Write((&x224.Confirm{}).Append(nil)); err != nil {
		return err
	}
	var said [1]byte
	if _, err := io.ReadFull(c, said[:]); err != nil {
		return err
	}
	a, err := m.Logon(sessions.Account{Domain: domain, User: o.Request.Cookie}, "PC", netip.Addr{}, "")
	if err != nil { // which is in the books already
		_, err = c.Write([]byte{sayFull})
		return err
	}
	defer a.Disconnect()
	said[0] = sayNew
	if a.Kind != simhost.AttachedNew {
		said[0] = sayBack
	}
	if _, err := c.Write(said[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, said[:]); err == nil && said[0] == saySignOut {
		a.Logoff()
	}
	return nil
}
