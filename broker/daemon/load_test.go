package daemon_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions/simhost"
)

// The load on the admin surface: pages that are open, readers that never
// read, and nonsense.
const (
	burdenPages   = 200
	burdenSilent  = 50
	burdenRounds  = 6
	burdenLogons  = 25 // in a round
	burdenPause   = 20 * time.Millisecond
	burdenAllowed = 4.0 // by what factor the middle logon may take longer, on a machine that does other things as well
)

// TestTheDataPathDoesNotNoticeTheAdminSurface: users are let in as fast while 200
// pages are open, 50 of their streams are never read, and nonsense comes in. Rounds
// with and without the load take turns, so that what else the machine does meets
// both.
func TestTheDataPathDoesNotNoticeTheAdminSurface(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	hosts := make([]simhost.Seed, 0, 150)
	for i := range 150 {
		hosts = append(hosts, away(fmt.Sprintf("user%d", i), time.Hour))
	}
	ts1 := startWindows(t, "ts1", full(400), hosts...)
	o := newOffice(t, ts1)
	o.top += "admin: {socket: admin.sock, metrics: '', listen: '127.0.0.1:0'}\nlimits: {per_client: 10000, pending_per_client: 10000}\n"
	s := o.open(t)
	link, err := s.ask().Link(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := newBurden(t, link.URL)

	var without, with []time.Duration
	for round := range burdenRounds {
		if round%2 == 0 {
			without = append(without, s.logons(t, round)...)
			continue
		}
		stop := c.begin(t)
		with = append(with, s.logons(t, round)...)
		stop()
	}
	a, b := middle(without), middle(with)
	t.Logf("the middle of %d logons: %v without the load, %v with it (%.2f times); %d events were read, %d pieces of nonsense answered",
		len(with), a, b, float64(b)/float64(a), c.events.Load(), c.nonsense.Load())
	if float64(b) > burdenAllowed*float64(a) {
		t.Errorf("a logon takes %v while the admin surface is busy, and %v while it is not", b, a)
	}
	if c.events.Load() == 0 || c.nonsense.Load() == 0 {
		t.Error("there was no load")
	}
}

// logons are how long users wait until they are connected.
func (s *stack) logons(t *testing.T, round int) (took []time.Duration) {
	t.Helper()
	for i := range burdenLogons {
		began := time.Now()
		u := s.call(t, "", fmt.Sprintf("user%d", round*burdenLogons+i))
		u.connected()
		took = append(took, time.Since(began))
		u.Close()
	}
	return took
}

func middle(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// burden is who burdens the admin surface.
type burden struct {
	base   *url.URL
	cookie string
	client *http.Client
	live   string // the path of a page's stream

	events, nonsense atomic.Int64
}

func newBurden(t *testing.T, link string) *burden {
	t.Helper()
	base, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &burden{base: base, client: &http.Client{Jar: jar, Transport: &http.Transport{MaxIdleConnsPerHost: -1, DisableKeepAlives: true}}}
	text := c.get(t, link)
	_, life, _ := strings.Cut(text, `data-life="`)
	life, _, _ = strings.Cut(life, `"`)
	if life == "" {
		t.Fatalf("the page is %s", text)
	}
	c.live = "/live?after=0&life=" + life
	for _, k := range jar.Cookies(base) {
		c.cookie = k.Name + "=" + k.Value
	}
	return c
}

func (c *burden) get(t *testing.T, u string) string {
	res, err := c.client.Get(u)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// begin brings the load on, until stop is called, which waits for its end.
func (c *burden) begin(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range burdenPages {
		conn, err := net.Dial("tcp", c.base.Host)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", c.live, c.base.Host, c.cookie); err != nil {
			t.Fatal(err)
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		if i < burdenSilent {
			continue // never reads
		}
		all.Go(func() {
			b := make([]byte, 4096)
			for {
				n, err := conn.Read(b)
				c.events.Add(int64(strings.Count(string(b[:n]), "event: ")))
				if err != nil {
					return
				}
			}
		})
	}
	for _, say := range []string{
		"GET /api/v1/hosts HTTP/1.1\r\nHost: x\r\nCookie: %s\r\nConnection: close\r\n\r\n",
		"GET /api/v1/explain?user=%%ff&from=x HTTP/1.1\r\nHost: x\r\nCookie: %s\r\nConnection: close\r\n\r\n",
		"POST /api/v1/eviction HTTP/1.1\r\nHost: x\r\nCookie: %s\r\nContent-Type: application/json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{{{{{{{{{",
		"%s nonsense \x00\x01\x02\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 20<<10) + "%s\r\n\r\n",
	} {
		all.Go(func() {
			for ctx.Err() == nil {
				if conn, err := net.Dial("tcp", c.base.Host); err == nil {
					_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
					_, _ = fmt.Fprintf(conn, say, c.cookie)
					if n, _ := conn.Read(make([]byte, 16)); n > 0 {
						c.nonsense.Add(1)
					}
					_ = conn.Close()
				}
				time.Sleep(burdenPause)
			}
		})
	}
	time.Sleep(300 * time.Millisecond) // until they are all there
	return func() { cancel(); all.Wait() }
}
