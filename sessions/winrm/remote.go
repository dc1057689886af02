package winrm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions/winagent"
)

// remote starts commands that live long, each in a shell of its own. It is a
// winagent.VariableTransport. One connection is parked in a Receive, another sends.
type remote struct {
	client *client
	// began: a command has been started since reset.
	began atomic.Bool
}

// faultFileNotFound: there is no such program (ERROR_FILE_NOT_FOUND as an HRESULT).
const faultFileNotFound = 2147942402

// Start is winagent.Transport.
func (r *remote) Start(ctx context.Context, command string) (winagent.Process, error) {
	return r.StartWith(ctx, command, nil)
}

// StartWith is winagent.VariableTransport. Old shells of ours that nobody uses any
// more are deleted before: the number that an account may have can be as low as five.
func (r *remote) StartWith(ctx context.Context, command string, variables map[string]string) (winagent.Process, error) {
	c := r.client
	if err := c.deleteOrphans(ctx); err != nil {
		return nil, err
	}
	e, err := c.post(ctx, createMessage(c.target.url, variables, c.operation), true)
	if err != nil {
		return nil, fmt.Errorf("open shell on %s: %w", c.target.addr, err)
	}
	shell, err := e.shellID()
	if err != nil {
		return nil, fmt.Errorf("open shell on %s: %w", c.target.addr, err)
	}
	id, err := c.startCommand(ctx, shell, command)
	if err != nil {
		c.deleteShell(ctx, shell)
		return nil, fmt.Errorf("start command on %s: %w", c.target.addr, err)
	}
	r.began.Store(true)
	p := &remoteProcess{client: c, shell: shell, id: id, pumped: make(chan struct{})}
	p.stdout, p.stdoutIn = io.Pipe()
	p.stderr, p.stderrIn = io.Pipe()
	pumpCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	go p.pump(pumpCtx)
	return p, nil
}

func (c *client) startCommand(ctx context.Context, shell, command string) (string, error) {
	e, err := c.post(ctx, commandMessage(c.target.url, shell, command, c.operation), false)
	var fault *Fault
	if errors.As(err, &fault) && fault.Code == faultFileNotFound {
		return "", &winagent.UnusableError{Why: "PowerShell is missing", Detail: fault.Reason}
	}
	if err != nil {
		return "", err
	}
	return checkID(e.Body.CommandID)
}

// remoteProcess is a running command. Its goroutine ends with Close.
type remoteProcess struct {
	client    *client
	shell, id string

	stdout, stderr     *io.PipeReader
	stdoutIn, stderrIn *io.PipeWriter
	exitCode           atomic.Int64

	stop      context.CancelFunc
	pumped    chan struct{} // closed when pump has returned
	closeOnce sync.Once
}

// maxSend is how much input goes into one message, which base64 makes a third
// longer: within the least MaxEnvelopeSizekb, 150.
const maxSend = 64 << 10

// Send is winagent.Process. The data is not repeated if its answer is lost: the
// host may have read it.
func (p *remoteProcess) Send(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), maxSend)
		m := sendMessage(p.client.target.url, p.shell, p.id, data[:n], p.client.operation)
		_, err := p.client.post(ctx, m, false)
		var fault *Fault
		if errors.As(err, &fault) && fault.Code != FaultShellGone && fault.Code != FaultTimedOut {
			return &winagent.UnusableError{Why: winagent.WhyNoInput, Detail: fault.Error()}
		}
		if err != nil {
			return fmt.Errorf("send to %s: %w", p.client.target.addr, err)
		}
		data = data[n:]
	}
	return nil
}

// Stdout, Stderr and ExitCode are winagent.Process.
func (p *remoteProcess) Stdout() io.Reader { return p.stdout }
func (p *remoteProcess) Stderr() io.Reader { return p.stderr }
func (p *remoteProcess) ExitCode() int     { return int(p.exitCode.Load()) }

// Close is winagent.Process. The command ends with its shell.
func (p *remoteProcess) Close() error {
	p.closeOnce.Do(func() {
		p.stop()
		p.stdout.CloseWithError(io.ErrClosedPipe) // wakes the pump if nobody reads
		p.stderr.CloseWithError(io.ErrClosedPipe)
		<-p.pumped
		p.client.deleteShell(context.Background(), p.shell)
	})
	return nil
}

// pump receives output until the command has ended or is lost.
func (p *remoteProcess) pump(ctx context.Context) {
	defer close(p.pumped)
	err := p.receive(ctx)
	p.stdoutIn.CloseWithError(err) // nil is io.EOF
	p.stderrIn.CloseWithError(err)
}

func (p *remoteProcess) receive(ctx context.Context) error {
	c := p.client
	for {
		asked := time.Now()
		e, err := c.post(ctx, receiveMessage(c.target.url, p.shell, p.id, c.operation), false)
		var fault *Fault
		switch {
		case errors.As(err, &fault) && fault.Code == FaultTimedOut:
			e = &envelope{} // it runs and has said nothing
		case err != nil:
			return fmt.Errorf("receive from %s: %w", c.target.addr, err)
		case e.Body.Receive == nil:
			return fmt.Errorf("receive from %s: the answer has no output and no state", c.target.addr)
		}
		var stdout, stderr bytes.Buffer
		done, code, err := e.output(p.id, &stdout, &stderr)
		if err != nil {
			return fmt.Errorf("receive from %s: %w", c.target.addr, err)
		}
		if _, err := p.stdoutIn.Write(stdout.Bytes()); err != nil {
			return err
		}
		if _, err := p.stderrIn.Write(stderr.Bytes()); err != nil {
			return err
		}
		if done {
			p.exitCode.Store(int64(code))
			return nil
		}
		if stdout.Len()+stderr.Len() == 0 && time.Since(asked) < quickAnswer {
			if err := sleep(ctx, slowDown); err != nil {
				return err
			}
		}
	}
}

// deleteOrphans deletes shells that an earlier broker has left behind with this
// account. That the host does not list them is no reason not to go on: they idle
// out. That it cannot be reached is.
func (c *client) deleteOrphans(ctx context.Context) error {
	shells, err := c.listShells(ctx)
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		c.log.Debug("remote shells cannot be listed", zap.String("endpoint", c.target.addr), zap.Error(err))
		return nil
	case err != nil:
		return fmt.Errorf("ask %s: %w", c.target.addr, err)
	}
	for _, s := range shells {
		if !s.isOrphan(c.target.user) {
			continue
		}
		c.log.Info("deleting a remote shell that was left behind", zap.String("endpoint", c.target.addr), zap.String("shell", s.ID))
		c.deleteShell(ctx, s.ID)
	}
	return nil
}
