package winrm

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds one HTTP answer, headers included. We ask for envelopes of
// at most maxEnvelope; the rest is for base64 in a sealed message and headers.
const maxAnswer = 1 << 20

// conn is one connection to the host and speaks HTTP/1.1 on it. NTLM
// authenticates connections, not requests, and its sealed messages must keep
// their order: so the connection is in our hands and not in those of an
// http.Transport, which may quietly use another one. One goroutine at a time.
type conn struct {
	nc     net.Conn
	in     *bufio.Reader
	budget *io.LimitedReader // what the current answer may still take

	password string  // that it was authenticated with, or is by each message
	seal     *sealer // nil: messages go as they are
	used     bool    // it has answered a message: the host may have closed it since
	current  bool    // the last exchange left it fit for another one
}

// reply is an HTTP answer, its body read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// connect makes a connection, with TLS if that is configured. It is not
// authenticated.
func (t *target) connect(ctx context.Context) (*conn, error) {
	nc, err := t.dial(ctx, "tcp", t.addr)
	if err != nil {
		return nil, contextError(ctx, err)
	}
	if t.tls != nil {
		secure := tls.Client(nc, t.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, contextError(ctx, fmt.Errorf("TLS with %s: %w", t.addr, err))
		}
		nc = secure
	}
	c := &conn{nc: nc, budget: &io.LimitedReader{R: nc}}
	// Enough for most headers: each host keeps two of them, and bodies go past it.
	c.in = bufio.NewReaderSize(budgetReader{c.budget}, 1024)
	return c, nil
}

// budgetReader tells the end of the budget from the end of the stream.
type budgetReader struct{ *io.LimitedReader }

func (b budgetReader) Read(p []byte) (int, error) {
	if b.N <= 0 {
		return 0, errTooLarge
	}
	return b.LimitedReader.Read(p)
}

// unansweredError: the connection ended before the first byte of an answer.
type unansweredError struct{ error }

func (e unansweredError) Unwrap() error { return e.error }

// exchange sends a request and reads its answer. It ends at once when ctx does,
// with ctx's cause. After an error the connection is of no more use.
func (c *conn) exchange(ctx context.Context, req *http.Request) (*reply, error) {
	c.current = false
	stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(time.Unix(1, 0)) })
	r, keep, err := c.roundTrip(req)
	// If stop comes too late, the deadline is in the past, now or soon: the
	// connection cannot be used again.
	c.current = stop() && err == nil && keep
	if err != nil {
		return nil, contextError(ctx, err)
	}
	return r, nil
}

func (c *conn) roundTrip(req *http.Request) (r *reply, keep bool, err error) {
	if err := req.Write(c.nc); err != nil {
		return nil, false, unansweredError{fmt.Errorf("send request: %w", err)}
	}
	c.budget.N = maxAnswer
	if _, err := c.in.Peek(1); err != nil {
		return nil, false, unansweredError{fmt.Errorf("read answer: %w", err)}
	}
	resp, err := http.ReadResponse(c.in, req)
	if err != nil {
		return nil, false, fmt.Errorf("read answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, false, fmt.Errorf("read answer: %w", err)
	}
	return &reply{status: resp.StatusCode, header: resp.Header, body: body}, !resp.Close, nil
}

// request is a POST to url with body, which may be empty.
func (c *conn) request(url, contentType, body string) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "rdpbroker")
	if body != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return req, nil
}

// tlsState is what is known of the TLS connection; nil without TLS.
func (c *conn) tlsState() *tls.ConnectionState {
	if t, ok := c.nc.(*tls.Conn); ok {
		s := t.ConnectionState()
		return &s
	}
	return nil
}

func (c *conn) close() { c.nc.Close() }

// contextError is err, or why ctx ended if that is what made it fail.
func contextError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
