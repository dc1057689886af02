package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a real HTTP server that answers as it is told.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int, w http.ResponseWriter, r *http.Request) // n counts from 1
	got    []posted
}

type posted struct {
	header http.Header
	body   []byte
}

func receive(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	rc := &receiver{answer: answer}
	rc.Server = httptest.NewServer(http.HandlerFunc(rc.serve))
	t.Cleanup(rc.Close)
	return rc
}

func (rc *receiver) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	rc.mu.Lock()
	rc.got = append(rc.got, posted{r.Header.Clone(), body})
	n, answer := len(rc.got), rc.answer
	rc.mu.Unlock()
	if answer != nil {
		answer(n, w, r)
	}
}

func (rc *receiver) set(answer func(n int, w http.ResponseWriter, r *http.Request)) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.answer = answer
}

func (rc *receiver) posts() []posted {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return append([]posted(nil), rc.got...)
}

func always(status int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// to is a configuration for url that does not let tests wait.
func to(t *testing.T, url string) *Config {
	t.Helper()
	client, err := NewClient("")
	if err != nil {
		t.Fatal(err)
	}
	return &Config{
		URL: url, Events: []audit.Event{audit.Evicted}, Pause: time.Millisecond, Tries: 3, Client: client, UserAgent: "test",
		Undelivered: filepath.Join(t.TempDir(), "undelivered.jsonl"),
		Text:        func(r *audit.Record) string { return "gone: " + r.Farm },
	}
}

// start runs a sender; the function that it returns stops it.
func start(t *testing.T, c *Config) (s *Sender, stop func()) {
	t.Helper()
	s = New(zaptest.NewLogger(t))
	s.SetConfig(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Close()
		s.Close()
	})
}

func until(t *testing.T, s *Sender, what string, ok func(Stats) bool) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); !ok(s.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("it never came about that %s: %+v", what, s.Stats())
		}
	}
}

func evicted(farm string) audit.Record {
	return audit.Record{
		Time: time.Unix(1, 0).UTC(), Event: audit.Evicted, Farm: farm,
		Decision: placement.Decision{Kind: placement.MakeRoom, Host: "ts1", Candidates: []placement.Candidate{{Host: "ts1", Why: "long"}}},
	}
}

func undelivered(t *testing.T, path string) (all []Undelivered) {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var u Undelivered
		if err := json.Unmarshal([]byte(line), &u); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, u)
	}
	return all
}

func TestMessagesAreSignedAndWhole(t *testing.T) {
	rc := receive(t, nil)
	c := to(t, rc.URL)
	key := []byte("a key of some length")
	for _, secret := range []string{string(key), "whsec_" + base64.StdEncoding.EncodeToString(key)} {
		c := *c
		c.Secret = func() (string, error) { return secret, nil }
		s, stop := start(t, &c)
		s.Record(evicted("office"))
		other := evicted("office")
		other.Event = audit.Decided // nobody asked to be told
		s.Record(other)
		until(t, s, "it is delivered", func(st Stats) bool { return st.Delivered == 1 })
		stop()
	}
	got := rc.posts()
	if len(got) != 2 {
		t.Fatalf("%d messages came", len(got))
	}
	for _, p := range got {
		var m Message
		if err := json.Unmarshal(p.body, &m); err != nil {
			t.Fatal(err)
		}
		if m.Text != "gone: office" || m.Record.Event != audit.Evicted || m.Record.Decision.Host != "ts1" || m.Record.Decision.Candidates != nil {
			t.Errorf("%s", p.body)
		}
		id, at := p.header.Get("webhook-id"), p.header.Get("webhook-timestamp")
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, at, p.body)
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); p.header.Get("webhook-signature") != want || id != m.ID || at == "" {
			t.Errorf("headers %v", p.header)
		}
		if p.header.Get("Content-Type") != "application/json" || p.header.Get("User-Agent") != "test" {
			t.Errorf("headers %v", p.header)
		}
	}
	if got[0].header.Get("webhook-id") == got[1].header.Get("webhook-id") {
		t.Error("two messages have one id")
	}
}

func TestTriedAgain(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"it fails":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"it is busy": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"it hangs up": func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		},
		"it is slow": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			rc := receive(t, func(n int, w http.ResponseWriter, r *http.Request) {
				if n < 3 {
					answer(w, r)
				}
			})
			c := to(t, rc.URL)
			if name == "it is slow" {
				c.Timeout = 100 * time.Millisecond
			}
			s, stop := start(t, c)
			s.Record(evicted("office"))
			until(t, s, "it is delivered", func(st Stats) bool { return st.Delivered == 1 })
			stop()
			if st := s.Stats(); st != (Stats{Delivered: 1, Retries: 2}) {
				t.Errorf("%+v", st)
			}
			got := rc.posts()
			if len(got) != 3 || got[0].header.Get("webhook-id") != got[2].header.Get("webhook-id") || string(got[0].body) != string(got[2].body) {
				t.Errorf("the tries differ: %d", len(got))
			}
			if left := undelivered(t, c.Undelivered); len(left) > 0 {
				t.Errorf("undelivered: %+v", left)
			}
		})
	}
}

func TestGivenUp(t *testing.T) {
	for name, x := range map[string]struct {
		answer func(int, http.ResponseWriter, *http.Request)
		tries  int
	}{
		"it does not want it": {always(http.StatusBadRequest), 1},
		"it has moved": {func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, 1},
		"it always fails": {always(http.StatusInternalServerError), 3},
	} {
		t.Run(name, func(t *testing.T) {
			rc := receive(t, x.answer)
			c := to(t, rc.URL)
			s, stop := start(t, c)
			s.Record(evicted("first"))
			s.Record(evicted("second")) // tried once, as the first was given up
			until(t, s, "both are given up", func(st Stats) bool { return st.Undelivered == 2 })
			stop()
			if n := len(rc.posts()); n != x.tries+1 {
				t.Errorf("%d tries", n)
			}
			left := undelivered(t, c.Undelivered)
			if len(left) != 2 || left[0].Message.Record.Farm != "first" || left[0].Tries != x.tries || left[1].Tries != 1 || !strings.Contains(left[0].Error, "answers") {
				t.Errorf("%+v", left)
			}
		})
	}
}

// TestTheReceiverDies and comes back: nothing is lost, and Resend sends it once.
func TestTheReceiverDies(t *testing.T) {
	rc := receive(t, nil)
	c := to(t, rc.URL)
	s, stop := start(t, c)
	s.Record(evicted("before"))
	until(t, s, "it is delivered", func(st Stats) bool { return st.Delivered == 1 })
	addr := rc.Listener.Addr().String()
	rc.Server.Close()
	for i := range 3 {
		s.Record(evicted(fmt.Sprint("away-", i)))
	}
	until(t, s, "they are given up", func(st Stats) bool { return st.Undelivered == 3 })
	stop()

	if done, err := Resend(context.Background(), c); err != nil || done.Kept != 3 || done.Delivered != 0 || done.Last == "" {
		t.Fatalf("%+v, %v", done, err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("somebody else has the port now: %v", err)
	}
	back := &receiver{}
	back.Server = &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(back.serve)}}
	back.Start()
	defer back.Server.Close()
	if done, err := Resend(context.Background(), c); err != nil || done != (Resent{Delivered: 3}) {
		t.Fatalf("%+v, %v", done, err)
	}
	var farms []string
	for _, p := range back.posts() {
		var m Message
		if err := json.Unmarshal(p.body, &m); err != nil {
			t.Fatal(err)
		}
		farms = append(farms, m.Record.Farm)
	}
	if got := strings.Join(farms, " "); got != "away-0 away-1 away-2" {
		t.Errorf("sent again: %s", got)
	}
	if done, err := Resend(context.Background(), c); err != nil || done != (Resent{}) {
		t.Errorf("once more: %+v, %v", done, err)
	}
	c.Client.CloseIdleConnections()
}

func TestNobodyWaitsForTheReceiver(t *testing.T) {
	free := make(chan struct{})
	rc := receive(t, func(_ int, _ http.ResponseWriter, _ *http.Request) { <-free })
	c := to(t, rc.URL)
	s, stop := start(t, c)
	const more = 50
	for range queueLength + 1 + more { // one may be on its way
		s.Record(evicted("office"))
	}
	if lost := s.Stats().Lost; lost < more || lost > more+1 {
		t.Errorf("%d messages were lost, not about %d", lost, more)
	}
	close(free)
	until(t, s, "all are delivered", func(st Stats) bool { return st.Delivered+st.Lost == queueLength+1+more })
	stop()
}

// TestStopping keeps what was not sent, the message on its way among it.
func TestStopping(t *testing.T) {
	came := make(chan struct{}, 1)
	rc := receive(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-r.Context().Done()
	})
	c := to(t, rc.URL)
	c.Timeout = time.Hour
	s, stop := start(t, c)
	for i := range 3 {
		s.Record(evicted(fmt.Sprint(i)))
	}
	<-came
	stop()
	left := undelivered(t, c.Undelivered)
	if len(left) != 3 || left[0].Message.Record.Farm != "0" || left[2].Message.Record.Farm != "2" {
		t.Errorf("%+v", left)
	}
}

func TestReloadWhileItIsAway(t *testing.T) {
	bad, good := receive(t, always(http.StatusInternalServerError)), receive(t, nil)
	c := to(t, bad.URL)
	c.Tries = 20
	c.Pause = 20 * time.Millisecond
	s, stop := start(t, c)
	s.Record(evicted("office"))
	until(t, s, "it was tried", func(st Stats) bool { return st.Retries > 0 })
	mended := to(t, good.URL)
	s.SetConfig(mended)
	until(t, s, "it is delivered", func(st Stats) bool { return st.Delivered == 1 })
	s.SetConfig(nil)
	s.Record(evicted("office"))
	stop()
	if n := len(good.posts()); n != 1 {
		t.Errorf("%d messages came", n)
	}
}

func TestResendKeepsWhatItCannotSend(t *testing.T) {
	rc := receive(t, nil)
	c := to(t, rc.URL)
	for i := range 4 {
		if err := keep(c.Undelivered, Undelivered{Time: time.Unix(1, 0), Tries: 3, Error: "x", Message: Message{ID: fmt.Sprint("msg_", i), Record: evicted(fmt.Sprint(i))}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := putBack(c.Undelivered, []byte("nonsense\n")); err != nil {
		t.Fatal(err)
	}
	rc.set(func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 2 { // it does not want the second
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	done, err := Resend(context.Background(), c)
	if err != nil || done.Delivered != 3 || done.Kept != 1 || done.Spoilt != 1 || !strings.Contains(done.Last, "400") {
		t.Errorf("%+v, %v", done, err)
	}
	b, err := os.ReadFile(c.Undelivered)
	if err != nil || strings.Count(string(b), "\n") != 2 || !strings.Contains(string(b), "msg_1") || !strings.Contains(string(b), `"tries":4`) || !strings.Contains(string(b), "nonsense") {
		t.Errorf("%s, %v", b, err)
	}
	// One that was ended in the middle is taken up again.
	if err := os.Rename(c.Undelivered, c.Undelivered+".sending"); err != nil {
		t.Fatal(err)
	}
	rc.set(nil)
	if done, err := Resend(context.Background(), c); err != nil || done.Delivered != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	c.Client.CloseIdleConnections()
}

func TestASecretThatIsAway(t *testing.T) {
	rc := receive(t, nil)
	c := to(t, rc.URL)
	c.Secret = func() (string, error) { return "", errors.New("no such file") }
	s, stop := start(t, c)
	s.Record(evicted("office"))
	until(t, s, "it is given up", func(st Stats) bool { return st.Undelivered == 1 })
	stop()
	if n := len(rc.posts()); n != 0 {
		t.Errorf("%d messages went out unsigned", n)
	}
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	c := &Config{Pause: time.Second}
	away := errors.New("no answer")
	for range 100 {
		for tries, most := range map[int]time.Duration{1: 1500 * time.Millisecond, 3: 6 * time.Second, 50: longestPause} {
			if p := pauseAfter(c, tries, away); p < most/4 || p > most {
				t.Errorf("after %d tries: %s", tries, p)
			}
		}
	}
	if p := pauseAfter(c, 1, &answerError{status: 503, after: 30 * time.Second}); p != 30*time.Second {
		t.Errorf("asked for 30s: %s", p)
	}
	if p := pauseAfter(c, 1, &answerError{status: 404}); p >= 0 {
		t.Errorf("after a no: %s", p)
	}
}
