package winrm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

// client posts messages to one endpoint. It may be used by several goroutines;
// it keeps up to two authenticated connections between their requests.
type client struct {
	target *target
	gate   *lockout.Gate[string] // of passwords
	log    *zap.Logger
	idle   chan *conn // at most two: one waits for output, the other sends
	closed atomic.Bool
	// operation is the OperationTimeout of messages, and wait how long we wait
	// for the answer to one: longer, so that no answer is lost.
	operation, wait time.Duration
}

// grace is how much longer than OperationTimeout the host has for its answer.
const grace = 15 * time.Second

// maxOperation keeps a parked request short enough for firewalls between.
const maxOperation = 20 * time.Second

func newClient(t *target, g *lockout.Gate[string], log *zap.Logger) *client {
	operation := min(t.timeout, maxOperation)
	return &client{target: t, gate: g, log: log, idle: make(chan *conn, 2), operation: operation, wait: operation + grace}
}

// post sends a message and reads its answer. With again the message may reach
// the host twice: it is repeated if a connection from before turns out to be
// closed. Without, only what the host did not take is repeated.
func (c *client) post(ctx context.Context, message string, again bool) (*envelope, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.wait, errNoAnswer)
	defer cancel()
	for {
		cn, err := c.take(ctx)
		if err != nil {
			return nil, err
		}
		before := cn.used
		e, err := c.send(ctx, cn, message)
		if cn.current {
			c.give(cn)
		} else {
			cn.close()
		}
		var unanswered unansweredError
		switch {
		case err == nil:
			return e, nil
		case !before || ctx.Err() != nil:
			return nil, err
		case errors.Is(err, errLoggedOut): // the host read no more than the headers
		case again && errors.As(err, &unanswered):
		default:
			return nil, err
		}
	}
}

// errLoggedOut: an authenticated connection is not any more.
var errLoggedOut = errors.New("the host wants a new logon")

func (c *client) send(ctx context.Context, cn *conn, message string) (*envelope, error) {
	kind := soapType
	if cn.seal != nil {
		kind = sealedType
		var err error
		if message, err = cn.seal.close(message); err != nil {
			return nil, err
		}
	}
	req, err := cn.request(c.target.url, kind, message)
	if err != nil {
		return nil, err
	}
	if c.target.basic {
		req.SetBasicAuth(c.target.account, cn.password)
	}
	r, err := cn.exchange(ctx, req)
	if err != nil {
		return nil, err
	}
	if r.status == http.StatusUnauthorized {
		cn.current = false
		if cn.used {
			return nil, errLoggedOut
		}
		return nil, c.gate.Shut(cn.password, lockout.Pause, c.refused("the host refused the user name or the password"))
	}
	cn.used = true
	c.gate.Open()
	contentType := r.header.Get("Content-Type")
	if cn.seal != nil && len(r.body) > 0 {
		if r.body, err = cn.seal.open(contentType, r.body); err != nil {
			cn.current = false
			return nil, err
		}
		contentType = soapType
	}
	return readEnvelope(r.status, contentType, r.body)
}

// take is the connection that was kept, or a new one, authenticated.
func (c *client) take(ctx context.Context) (*conn, error) {
	select {
	case cn := <-c.idle:
		return cn, nil
	default:
	}
	password, err := c.target.password()
	if err != nil {
		return nil, fmt.Errorf("read the password of %s: %w", c.target.account, err)
	}
	if err := c.gate.Pass(password); err != nil {
		return nil, err
	}
	cn, err := c.target.connect(ctx)
	if err != nil {
		return nil, err
	}
	cn.password = password
	if err := c.logon(ctx, cn, password); err != nil {
		cn.close()
		return nil, c.gate.Shut(password, lockout.Pause, err)
	}
	return cn, nil
}

// give keeps a connection for the next request.
func (c *client) give(cn *conn) {
	select {
	case c.idle <- cn:
	default:
		cn.close()
	}
	if c.closed.Load() { // perhaps while the request was under way
		c.drop()
	}
}

// close drops the connection that is kept, and keeps none from now on.
func (c *client) close() {
	c.closed.Store(true)
	c.drop()
}

func (c *client) drop() {
	for {
		select {
		case cn := <-c.idle:
			cn.close()
		default:
			return
		}
	}
}
