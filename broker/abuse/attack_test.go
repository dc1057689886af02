//go:build linux

package abuse

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/simhost/nlatest"
)

// attack is one way in which strangers connect.
type attack struct {
	name string
	// as is what a connection says of itself.
	as func(f *farm, rnd *rand.Rand) nlatest.Client
}

func attacks() []attack {
	return []attack{
		{"random names", func(_ *farm, rnd *rand.Rand) nlatest.Client {
			return nlatest.Client{Cookie: fmt.Sprintf("%x", rnd.Uint64())[:1+rnd.IntN(12)]}
		}},
		{"all known names", func(f *farm, rnd *rand.Rand) nlatest.Client {
			name := f.anybody(rnd)
			return nlatest.Client{Cookie: []string{name, domain + `\` + name, (domain + `\` + name)[:9], name + "@contoso.example"}[rnd.IntN(4)]}
		}},
		{"@@B names", func(f *farm, rnd *rand.Rand) nlatest.Client {
			return nlatest.Client{Cookie: "@@B" + []string{f.anybody(rnd), fmt.Sprintf("%022x", rnd.Uint64())}[rnd.IntN(2)]}
		}},
		{"stolen tokens", func(f *farm, rnd *rand.Rand) nlatest.Client {
			return nlatest.Client{Token: f.token(rnd, time.Hour)}
		}},
		{"tokens that are none", func(f *farm, rnd *rand.Rand) nlatest.Client {
			b := f.token(rnd, time.Hour)
			switch rnd.IntN(4) {
			case 0: // changed
				b[len(token.Prefix)+rnd.IntN(len(b)-len(token.Prefix))] ^= 1
			case 1: // expired
				b = f.token(rnd, -time.Hour)
			case 2: // noise
				noise := make([]byte, 20+rnd.IntN(100))
				for i := range noise {
					noise[i] = byte(rnd.Uint32())
				}
				b = []byte(token.Prefix + base64.RawURLEncoding.EncodeToString(noise))
			case 3: // the address of some host, as load balancers put it
				b = x224.AppendMSTSToken(nil, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(rnd.Uint32())))
			}
			return nlatest.Client{Token: b}
		}},
	}
}

// anybody is somebody whom the broker knows.
func (f *farm) anybody(rnd *rand.Rand) string {
	n := rnd.IntN(len(f.owners) + len(f.staff))
	if n < len(f.owners) {
		return f.owners[n]
	}
	return f.staff[n-len(f.owners)]
}

// token is one of somebody's that ends after d.
func (f *farm) token(rnd *rand.Rand, d time.Duration) []byte {
	var nonce [token.NonceSize]byte
	for i := range nonce {
		nonce[i] = byte(rnd.Uint32())
	}
	now := time.Now()
	text, err := f.ring.Seal(token.Token{
		Account: sessions.Account{Domain: domain, User: f.anybody(rnd)}, Farm: "office",
		MadeAt: now.Add(-2 * time.Hour), ExpiresAt: now.Add(d),
	}, nonce)
	if err != nil {
		panic(err)
	}
	return []byte(text)
}

// patience is how long a stranger waits for an answer.
const patience = 100 * time.Millisecond

// counts of what became of connections.
type counts map[string]int

// run makes n connections, workers at a time, from one address or from any of
// 127.0.0.0/9, and stays until all have ended.
func (a attack) run(f *farm, n, workers int, many bool, seed uint64) counts {
	var mu sync.Mutex
	all := counts{}
	var working sync.WaitGroup
	for w := range workers {
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		working.Go(func() {
			for i := w; i < n; i += workers {
				from := netip.AddrFrom4([4]byte{127, 0, 0, 77})
				if many {
					from = netip.AddrFrom4([4]byte{127, byte(rnd.IntN(128)), byte(rnd.IntN(256)), byte(1 + rnd.IntN(254))})
				}
				what := connect(f, a.as(f, rnd), from, rnd)
				mu.Lock()
				all[what]++
				mu.Unlock()
			}
		})
	}
	working.Wait()
	return all
}

// connect is one stranger, who goes as far as they like and leaves.
func connect(f *farm, k nlatest.Client, from netip.Addr, rnd *rand.Rand) (what string) {
	c, err := dialFrom(from, f.broker.addr)
	if err != nil {
		return "not connected"
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0) // or the ports of one address were soon used up
	_ = c.SetDeadline(time.Now().Add(patience))
	switch how := rnd.IntN(10); how {
	case 0: // says who it is and goes
		r := x224.Request{Cookie: k.Cookie, HasCookie: k.Cookie != "", Token: k.Token}
		_, _ = c.Write(r.Append(nil))
		return "gone at once"
	case 1: // guesses a password
		_ = c.SetDeadline(time.Now().Add(10 * patience))
		k.User, k.Password = f.anybody(rnd), "guess"
		switch _, err := k.Logon(c); {
		case err == nil: // a host that speaks HYBRID says nothing so far; nothing follows
			return "no answer to a password"
		case errors.Is(err, nlatest.ErrRefused):
			return "refused by the host"
		}
		return "turned away, or tired of waiting"
	case 2, 3: // sends what somebody with a password would send, in sizes
		confirm, err := k.Request(c)
		if err != nil || confirm.Failure {
			return "turned away, or tired of waiting"
		}
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: []uint16{tls.VersionTLS12, tls.VersionTLS13}[how-2]})
		if s.Handshake() != nil {
			return "turned away, or tired of waiting"
		}
		for _, size := range []int{93, 433, 118, 467, 12, 8, 12, 12, 366} {
			if _, err := s.Write(make([]byte, size)); err != nil {
				break
			}
		}
		_, _ = s.Read(make([]byte, 1))
		return "pretended"
	}
	if confirm, err := k.Request(c); err != nil || confirm.Failure {
		return "turned away, or tired of waiting"
	}
	return "answered by a host"
}

func dialFrom(from netip.Addr, to string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	return d.Dial("tcp", to)
}
