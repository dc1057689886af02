package xrdp

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshServer is an ssh server whose commands are run by a function. It tells of
// what sshd cannot be made to do.
type sshServer struct {
	addr string
	conf *ssh.ServerConfig
	run  func(command string, ch ssh.Channel) (status uint32)

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func startSSHServer(t *testing.T, run func(string, ssh.Channel) uint32, keys ...ssh.Signer) *sshServer {
	t.Helper()
	s := &sshServer{run: run, conf: &ssh.ServerConfig{
		PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if c.User() == "root" && string(password) == "secret" {
				return nil, nil
			}
			return nil, errors.New("no")
		},
	}}
	for _, k := range keys {
		s.conf.AddHostKey(k)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
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
		s.drop()
		s.wg.Wait()
	})
	return s
}

func (s *sshServer) serve(c net.Conn) {
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
		s.wg.Go(func() {
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
		})
	}
}

// drop closes all connections and returns how many there have been.
func (s *sshServer) drop() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	return len(s.conns)
}

// runner is an SSH for the server, which known_hosts knows by these keys.
func (s *sshServer) runner(t *testing.T, change func(*SSHConfig), keys ...ssh.Signer) *SSH {
	t.Helper()
	dir := t.TempDir()
	cfg := SSHConfig{Addr: s.addr, PasswordFile: filepath.Join(dir, "password"), KnownHosts: filepath.Join(dir, "known_hosts")}
	var lines strings.Builder
	for _, k := range keys {
		lines.WriteString(knownhosts.Line([]string{s.addr}, k.PublicKey()) + "\n")
	}
	for path, text := range map[string]string{cfg.PasswordFile: "secret\n", cfg.KnownHosts: lines.String()} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&cfg)
	}
	r, err := NewSSH(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// tap passes bytes to a server until it is frozen; then it swallows them.
type tap struct {
	addr   string
	frozen chan struct{}
	once   sync.Once
}

func (p *tap) freeze() { p.once.Do(func() { close(p.frozen) }) }

func startTap(t *testing.T, to string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: ln.Addr().String(), frozen: make(chan struct{})}
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
		for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
			wg.Go(func() {
				buf := make([]byte, 32<<10)
				for {
					n, err := from.Read(buf)
					select {
					case <-p.frozen:
						to = nopConn{to}
					default:
					}
					if err != nil {
						to.Close()
						return
					}
					to.Write(buf[:n])
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return p
}

// nopConn swallows what is written.
type nopConn struct{ net.Conn }

func (nopConn) Write(b []byte) (int, error) { return len(b), nil }
