// Package client asks a running broker over its Unix socket, and writes its answers
// for people and for programs.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
)

// maxAnswer bounds an answer, in bytes: thousands of sessions fit.
const maxAnswer = 64 << 20

// Client asks a broker over its Unix socket. Each question is bounded by its context.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for the socket at path. Nothing is opened yet.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{socket: path, http: &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}}
}

// AnswerError is a broker's answer that it cannot tell.
type AnswerError struct {
	Status int // of HTTP
	Detail string
}

func (e *AnswerError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("the broker answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return "the broker says: " + admin.Clean(e.Detail, 512)
}

// Hosts are all hosts with their slots.
func (c *Client) Hosts(ctx context.Context) (admin.Hosts, error) {
	var out admin.Hosts
	return out, c.get(ctx, "hosts", nil, &out)
}

// Sessions are the sessions that f chooses. The error is *AnswerError if there
// is no such host.
func (c *Client) Sessions(ctx context.Context, f admin.Filter) (admin.Sessions, error) {
	var out admin.Sessions
	return out, c.get(ctx, "sessions", url.Values{"host": {f.Host}, "user": {f.User}}, &out)
}

// Explain is what would become of a caller. The error is *AnswerError if there
// is no such farm.
func (c *Client) Explain(ctx context.Context, q admin.Question) (admin.Explanation, error) {
	v := url.Values{"user": {q.User}, "farm": {q.Farm}}
	if q.From.IsValid() {
		v.Set("from", q.From.String())
	}
	if !q.At.IsZero() {
		v.Set("at", q.At.Format(time.RFC3339))
	}
	if len(q.WhatIf) > 0 {
		v["what_if"] = q.WhatIf
	}
	var out admin.Explanation
	return out, c.get(ctx, "explain", v, &out)
}

// get asks for what and reads the answer into out.
func (c *Client) get(ctx context.Context, what string, query url.Values, out any) error {
	res, err := c.send(ctx, http.MethodGet, what, query, nil)
	if err != nil {
		return err
	}
	return read(res, what, out)
}

// send sends a request and returns its answer, to be closed.
func (c *Client) send(ctx context.Context, method, what string, query url.Values, body io.Reader) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "rdpbroker", Path: "/api/v1/" + what, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("asking the broker for %s: %w", what, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return res, nil
}

// read reads an answer into out.
func read(res *http.Response, what string, out any) error {
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("reading the broker's %s: %w", what, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("reading the broker's %s: the answer is too long", what)
	}
	if res.StatusCode != http.StatusOK {
		return answerError(res, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("reading the broker's %s: %w", what, err)
	}
	return nil
}

func answerError(res *http.Response, body []byte) error {
	e := &AnswerError{Status: res.StatusCode}
	var p admin.Problem
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err == nil && kind == admin.ProblemType && json.Unmarshal(body, &p) == nil {
		e.Detail = p.Detail
	}
	return e
}

// unreachable says what an operator can do about a socket that cannot be used.
func (c *Client) unreachable(err error) error {
	var ue *url.Error // tells a made-up URL, which helps nobody
	if errors.As(err, &ue) {
		err = ue.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, admin.ErrRefused):
		return fmt.Errorf("no broker answers at %s; is it running, and is admin.socket the same in its configuration? (%w)", c.socket, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened by this user; its group may (%w)", c.socket, err)
	}
	return fmt.Errorf("asking the broker at %s: %w", c.socket, err)
}
