package demo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker/demo"
	"github.com/rdpbroker/rdpbroker/sessions/simhost/nlatest"
)

func TestMain(m *testing.M) {
	// The cache of package identity keeps a goroutine for as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

// patience is how long anything may take before it counts as hung.
const patience = 30 * time.Second

// show is a demo that runs, and what it has printed.
type show struct {
	t          *testing.T
	stop, kill context.CancelFunc
	ended      chan error

	mu   sync.Mutex
	text strings.Builder
}

func (s *show) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// start runs the demo; its temporary files are in a folder of the test's.
func start(t *testing.T, o demo.Options) *show {
	t.Helper()
	stop, first := context.WithCancel(context.Background())
	kill, second := context.WithCancel(context.Background())
	s := &show{t: t, stop: first, kill: second, ended: make(chan error, 1)}
	o.Out = s
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.ended <- demo.Run(stop, kill, o)
	}()
	t.Cleanup(func() {
		first()
		second()
		<-over
	})
	return s
}

// printed waits until the demo has printed something that matches.
func (s *show) printed(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	for late := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		text := s.text.String()
		s.mu.Unlock()
		if found := re.FindStringSubmatch(text); found != nil {
			return found
		}
		if time.Now().After(late) {
			s.t.Fatalf("it has not printed %q but\n%s", pattern, text)
		}
	}
}

// lacks checks that text has not been printed so far.
func (s *show) lacks(text string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(s.text.String(), text) {
		s.t.Errorf("it has printed %q:\n%s", text, s.text.String())
	}
}

// finish waits for the end of Run and returns its error.
func (s *show) finish() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		s.t.Fatal("the demo does not end")
		return nil
	}
}

// dial connects to addr; the connection ends with the test.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// connect says who is coming, and expects a host to answer.
func connect(t *testing.T, addr, user string) {
	t.Helper()
	if answer, err := (nlatest.Client{Cookie: user}).Request(dial(t, addr)); err != nil || answer.Failure {
		t.Errorf("%s: %+v, %v", user, answer, err)
	}
}

// logon shows a password, and goes on as far as the host says yes.
func logon(t *testing.T, addr, user, password string) (*nlatest.Conn, error) {
	t.Helper()
	return nlatest.Client{Cookie: user, User: user, Password: password}.Logon(dial(t, addr))
}

// TestTheDemo plays what the screen tells people to try.
func TestTheDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := start(t, demo.Options{})
	addr := s.printed(`Point any RDP client at (\S+:\d+)\.`)[1]
	s.printed(`ts1 +\S+ +1 of 2 +2 +CONTOSO\\alice +disconnected for 3h12m`)
	s.printed(`ts2 +\S+ +2 of 2 +3 +CONTOSO\\dave +active`)

	erin, err := logon(t, addr, "erin", "demo")
	if err != nil {
		t.Fatal(err)
	}
	s.lacks("logs off") // she may have wanted to see the certificate only
	if _, err := erin.Write(make([]byte, 400)); err != nil {
		t.Fatal(err)
	}
	s.printed(`broker  logs off \S*alice \(session ts1/2\) for \S*erin`)
	// A guesser gets nobody logged off.
	if _, err := logon(t, addr, "frank", "guess"); !errors.Is(err, nlatest.ErrRefused) {
		t.Errorf("a wrong password: %v", err)
	}
	s.printed(`broker  frank gets a slot on ts1 if the host accepts the password`)
	s.printed(`ts1     logon refused: CONTOSO\\frank: The user name or password is incorrect`)
	s.lacks("for frank") // nobody is logged off for him
	connect(t, addr, "carol")
	s.printed(`broker  \S*carol goes back to ts2`)
	connect(t, addr, "dave")
	s.printed(`broker  \S*dave takes over on ts2`)
	s.printed(`broker  \S*alice is gone after`)
	s.printed(`ts1     gone: CONTOSO\\alice, session 2`)
	s.stop()
	s.kill() // connections are open
	if err := s.finish(); err != nil {
		t.Error(err)
	}
	leftovers(t)
}

// leftovers fails the test if the demo left anything behind.
func leftovers(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "rdpbroker-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestWithoutBroker: the host lets anybody connect; the refusal comes with the logon.
func TestWithoutBroker(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := start(t, demo.Options{WithoutBroker: true})
	addr := s.printed(`Point any RDP client at (\S+:\d+) as somebody`)[1]
	connect(t, addr, "erin")
	s.stop()
	if err := s.finish(); err != nil {
		t.Error(err)
	}
	leftovers(t)
}

// TestAddressInUse: the error says which address, and nothing is left behind.
func TestAddressInUse(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for name, o := range map[string]demo.Options{
		"listen":         {Listen: addr},
		"admin":          {Admin: addr},
		"without broker": {Listen: addr, WithoutBroker: true},
		"no port":        {Listen: "127.0.0.1"},
		"no folder":      {Socket: filepath.Join(t.TempDir(), "no", "such", "folder", "admin.sock")},
	} {
		t.Run(name, func(t *testing.T) {
			o.Out = io.Discard
			err := demo.Run(context.Background(), context.Background(), o)
			if err == nil {
				t.Fatal("it ran")
			}
			for _, v := range []string{o.Listen, o.Admin, filepath.Base(o.Socket)} {
				if v != "." && !strings.Contains(err.Error(), v) {
					t.Errorf("%q does not name %q", err, v)
				}
			}
			leftovers(t)
		})
	}
}

// TestTwoDemos do not disturb one another.
func TestTwoDemos(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	addrs := map[string]bool{}
	for i := range 2 {
		s := start(t, demo.Options{})
		addr := s.printed(`Point any RDP client at (\S+:\d+)\.`)[1]
		if addrs[addr] {
			t.Errorf("both are at %s", addr)
		}
		addrs[addr] = true
		connect(t, addr, fmt.Sprintf("guest%d", i))
	}
}
