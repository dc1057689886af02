// Package sshtest has an ssh server in the test program, which does what sshd
// cannot be made to do, and a wire to it that can be cut without a word.
package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// NewKey is a fresh key pair.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// KnownHosts is a known_hosts file which says that addr has these keys.
func KnownHosts(t testing.TB, addr string, keys ...ssh.Signer) string {
	t.Helper()
	var lines strings.Builder
	for _, k := range keys {
		lines.WriteString(knownhosts.Line([]string{addr}, k.PublicKey()) + "\n")
	}
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// User and Password are who a Server lets in.
const (
	User     = "root"
	Password = "secret"
)

// Server is an ssh server whose commands are run by a function. It takes passwords
// both ways, as sshd with PAM does.
type Server struct {
	// Addr is where it listens.
	Addr string
	// Refused is how many passwords it has refused.
	Refused atomic.Int64

	conf *ssh.ServerConfig
	run  func(command string, ch ssh.Channel) (status uint32)

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

// Start starts a server with these host keys, which ends with the test. run runs
// one command, whose streams are ch's; it is called by several at the same time.
func Start(t testing.TB, run func(command string, ch ssh.Channel) (status uint32), keys ...ssh.Signer) *Server {
	t.Helper()
	s := &Server{run: run}
	check := func(c ssh.ConnMetadata, password string) (*ssh.Permissions, error) {
		if c.User() == User && password == Password {
			return nil, nil
		}
		s.Refused.Add(1)
		return nil, errors.New("no")
	}
	s.conf = &ssh.ServerConfig{
		PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return check(c, string(password))
		},
		KeyboardInteractiveCallback: func(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(answers) != 1 {
				return nil, errors.New("no answer")
			}
			return check(c, answers[0])
		},
	}
	for _, k := range keys {
		s.conf.AddHostKey(k)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = ln.Addr().String()
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.Drop()
		s.wg.Wait()
	})
	return s
}

func (s *Server) serve(c net.Conn) {
	defer c.Close()
	_, chans, reqs, err := ssh.NewServerConn(c, s.conf)
	if err != nil {
		return
	}
	s.wg.Go(func() { ssh.DiscardRequests(reqs) })
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.session(ch, reqs) })
	}
}

func (s *Server) session(ch ssh.Channel, reqs <-chan *ssh.Request) {
	for req := range reqs {
		var exec struct{ Command string }
		if req.Type != "exec" || ssh.Unmarshal(req.Payload, &exec) != nil {
			req.Reply(false, nil)
			continue
		}
		req.Reply(true, nil)
		s.wg.Go(func() {
			defer ch.Close()
			status := s.run(exec.Command, ch)
			ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		})
	}
}

// Drop closes all connections and returns how many there have been.
func (s *Server) Drop() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	return len(s.conns)
}

// Wire passes the bytes of one connection on to a server until it is frozen; then
// it swallows them.
type Wire struct {
	// Addr is where it listens.
	Addr   string
	frozen chan struct{}
	once   sync.Once
}

// StartWire starts a wire to a server. It ends when both its ends have.
func StartWire(t testing.TB, to string) *Wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{Addr: ln.Addr().String(), frozen: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			client.Close()
			return
		}
		wg.Go(func() { w.copy(server, client) })
		w.copy(client, server)
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return w
}

// Freeze makes the wire swallow everything from now on.
func (w *Wire) Freeze() { w.once.Do(func() { close(w.frozen) }) }

func (w *Wire) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-w.frozen:
		default:
			to.Write(buf[:n]) // its end is noticed by the other direction
		}
	}
}
