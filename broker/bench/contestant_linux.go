package bench

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/template"
	"time"
)

//go:embed haproxy-plain.cfg haproxy-tuned.cfg broker.yaml
var templates embed.FS

// The names of the contestants.
const (
	direct = "direct"
	plain  = "HAProxy plain"
	tuned  = "HAProxy tuned"
	ours   = "rdpbroker"
	other  = "the other rdpbroker"
)

var contestants = []string{direct, plain, tuned, ours}

// ports are where they listen, each on one of its own; metrics are on the next one.
var ports = map[string]uint16{plain: 13400, tuned: 13410, ours: 13420, other: 13430}

// reservedPorts are all of these, and that of the hosts.
const reservedPorts = "13389-13439"

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// setting is what the templates are filled with.
type setting struct {
	Listen, Metrics     netip.AddrPort
	Hosts               []netip.AddrPort
	Connections, Slots  int
	WinRM               []string
	Manager, ServerName string
}

// contestant is one that runs.
type contestant struct {
	name string
	to   []netip.AddrPort
	cmd  *exec.Cmd // nil: there is no process
	dir  string
	// ended is closed when the process has.
	ended chan struct{}
}

// start runs the contestant of that name, with what it writes in a new folder
// below dir, and returns when it takes connections, of which it may hold so many.
func start(name string, f *farm, program, dir string, connections int) (_ *contestant, err error) {
	c := &contestant{name: name, to: f.hosts, ended: make(chan struct{})}
	if name == direct {
		return c, nil
	}
	c.to = []netip.AddrPort{loopback(ports[name])}
	if c.dir, err = os.MkdirTemp(dir, ""); err != nil {
		return nil, err
	}
	s := setting{
		Listen: c.to[0], Metrics: loopback(ports[name] + 1), Hosts: f.hosts, Connections: connections, Slots: 2 * usersPerHost,
		WinRM: f.winrm, Manager: manager.String(), ServerName: serverName,
	}
	switch name {
	case plain:
		err = c.config("haproxy-plain.cfg", s)
		c.cmd = exec.Command("haproxy", "-db", "-f", "haproxy-plain.cfg")
	case tuned:
		err = c.config("haproxy-tuned.cfg", s)
		c.cmd = exec.Command("haproxy", "-db", "-f", "haproxy-tuned.cfg")
	case ours, other:
		err = c.config("broker.yaml", s)
		for file, text := range map[string][]byte{"ca.pem": f.ca, "password": []byte(managerPassword + "\n")} {
			if err == nil {
				err = os.WriteFile(filepath.Join(c.dir, file), text, 0o600)
			}
		}
		c.cmd = exec.Command(program, "serve", "--config", "broker.yaml")
	}
	if err != nil {
		return nil, err
	}
	c.cmd.Dir = c.dir
	// If this program is killed, no contestant may be left behind.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	if err := c.await(); err != nil {
		text := c.lastWords()
		c.stop()
		return nil, fmt.Errorf("%s: %w\n%s", name, err, text)
	}
	return c, nil
}

func (c *contestant) config(name string, s setting) error {
	t, err := template.ParseFS(templates, name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, name), b.Bytes(), 0o600)
}

// await returns when c listens.
func (c *contestant) await() error {
	end := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.DialTimeout("tcp", c.to[0].String(), time.Second)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("it does not listen: %w", err)
		}
		select {
		case <-c.ended:
			return errors.New("it has ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends c and takes its folder away.
func (c *contestant) stop() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
	os.RemoveAll(c.dir)
}

// lastWords are the end of what c has logged.
func (c *contestant) lastWords() string {
	const enough = 2000
	text, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	return string(text[max(0, len(text)-enough):])
}

// pid is c's process, 0 if it has none.
func (c *contestant) pid() int {
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}
