package winssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rdpbroker/rdpbroker/sessions/sshlink"
	"github.com/rdpbroker/rdpbroker/sessions/winagent"
)

// transport is a winagent.Transport: it starts each command on a connection of its own.
type transport struct {
	link    *sshlink.Link
	timeout time.Duration
}

// Start is winagent.Transport.
func (t *transport) Start(ctx context.Context, command string) (winagent.Process, error) {
	conn, err := t.link.Connect(ctx) // has its own deadline
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	p := &process{addr: t.link.Addr(), conn: conn, done: make(chan struct{})}
	if err := p.start(ctx, command); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start a command on %s: %w", t.link.Addr(), err)
	}
	return p, nil
}

// process is a running command, and the only one on its connection.
type process struct {
	addr           string
	conn           *sshlink.Conn
	stdin          io.WriteCloser
	stdout, stderr io.Reader
	closing        sync.Once

	done chan struct{} // closed when the command has ended or the connection is lost
	// These are valid after done.
	code int
	err  error // io.EOF if it has ended, else why it was lost
}

// errNoCommands: sshd took the session and not the command, as with "ForceCommand
// internal-sftp" or a shell that is not there.
var errNoCommands = errors.New("the host runs no commands for this account")

func (p *process) start(ctx context.Context, command string) error {
	sess, err := p.conn.Session(ctx)
	if err != nil {
		return err
	}
	if p.stdin, err = sess.StdinPipe(); err != nil {
		return err
	}
	stdout, err := sess.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := sess.StderrPipe()
	if err != nil {
		return err
	}
	p.stdout, p.stderr = &output{p, stdout}, &output{p, stderr}
	stop := context.AfterFunc(ctx, func() { p.conn.Close() })
	err = sess.Start(command)
	switch {
	case !stop():
		return ctx.Err()
	case err != nil && strings.Contains(err.Error(), command): // the refusal repeats it
		return errNoCommands
	case err != nil:
		return p.lost()
	}
	go p.wait(sess)
	return nil
}

// wait learns how the command ends. It returns by Close at the latest.
func (p *process) wait(sess *ssh.Session) {
	defer close(p.done)
	err := sess.Wait()
	var exit *ssh.ExitError
	switch {
	case err == nil:
		p.err = io.EOF
	case errors.As(err, &exit):
		p.code, p.err = exit.ExitStatus(), io.EOF
	default:
		p.err = p.lost()
	}
}

// lost is the error of a connection that has ended before its command.
func (p *process) lost() error {
	if err := p.conn.Err(); err != nil {
		return fmt.Errorf("the ssh connection to %s is lost: %w", p.addr, err)
	}
	return fmt.Errorf("the ssh connection to %s is lost", p.addr)
}

// Send is winagent.Process. What a command that has ended reads no more is no
// error: its output tells of its end.
func (p *process) Send(ctx context.Context, data []byte) error {
	stop := context.AfterFunc(ctx, func() { p.conn.Close() }) // nothing else ends the wait for room
	_, err := p.stdin.Write(data)
	if !stop() {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if errors.Is(p.err, io.EOF) {
		return nil
	}
	return p.err
}

// Stdout, Stderr and ExitCode are winagent.Process.
func (p *process) Stdout() io.Reader { return p.stdout }
func (p *process) Stderr() io.Reader { return p.stderr }
func (p *process) ExitCode() int {
	<-p.done
	return p.code
}

// closeWithin is how long a command may take to end when its input does.
const closeWithin = 2 * time.Second

// Close is winagent.Process. The agent ends when its input does. What does not,
// loses its connection and so its streams.
func (p *process) Close() error {
	p.closing.Do(func() {
		late := time.AfterFunc(closeWithin, func() { p.conn.Close() })
		defer late.Stop()
		p.stdin.Close()
		<-p.done
		p.conn.Close()
	})
	return nil
}

// output is a stream of a process. An ssh stream ends in the same way whether its
// command has ended or the connection is lost; this one tells.
type output struct {
	p *process
	r io.Reader
}

func (o *output) Read(b []byte) (int, error) {
	n, err := o.r.Read(b)
	if n > 0 || err == nil {
		return n, nil
	}
	<-o.p.done
	return 0, o.p.err
}
