package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
)

// Status is the broker in a few numbers.
func (c *Client) Status(ctx context.Context) (admin.Overview, error) {
	var out admin.Overview
	return out, c.get(ctx, "status", nil, &out)
}

// Connections are those that are relayed now, to one host or to all where it is "".
func (c *Client) Connections(ctx context.Context, host string) (admin.Connections, error) {
	var out admin.Connections
	return out, c.get(ctx, "connections", url.Values{"host": {host}}, &out)
}

// Waiting is who waits for a slot.
func (c *Client) Waiting(ctx context.Context) (admin.WaitingList, error) {
	var out admin.WaitingList
	return out, c.get(ctx, "waiting", nil, &out)
}

// Decisions are the newest limit records of what was decided and done.
func (c *Client) Decisions(ctx context.Context, limit int) (admin.Decisions, error) {
	var out admin.Decisions
	return out, c.get(ctx, "decisions", url.Values{"limit": {strconv.Itoa(limit)}}, &out)
}

// Drain lets host take no new sessions, or takes that back.
func (c *Client) Drain(ctx context.Context, host string, on bool) (admin.Done, error) {
	verb := "undrain"
	if on {
		verb = "drain"
	}
	return c.act(ctx, "hosts/"+url.PathEscape(host)+"/"+verb, struct{}{})
}

// Target names what an action is about: a host, or one session on it.
type Target struct {
	Host string
	// ID is the session's, with Key, as Session tells it; Session false: all of the host.
	Session bool
	ID      int
	Key     string
}

func (t Target) path(verb string) string {
	if !t.Session {
		return "hosts/" + url.PathEscape(t.Host) + "/" + verb
	}
	return fmt.Sprintf("sessions/%s/%d/%s", url.PathEscape(t.Host), t.ID, verb)
}

// Message shows a text to the user of a session, or to all who are active on a host.
func (c *Client) Message(ctx context.Context, t Target, title, text string) (admin.Done, error) {
	return c.act(ctx, t.path("message"), map[string]string{"title": title, "text": text, "key": t.Key})
}

// Logoff logs off a disconnected session; it returns when that is gone.
func (c *Client) Logoff(ctx context.Context, t Target) (admin.Done, error) {
	return c.act(ctx, t.path("logoff"), map[string]string{"key": t.Key})
}

// Keep keeps a session from eviction for some time.
func (c *Client) Keep(ctx context.Context, t Target, d time.Duration) (admin.Done, error) {
	return c.act(ctx, t.path("keep"), map[string]string{"key": t.Key, "for": d.String()})
}

// Unkeep keeps a session no longer.
func (c *Client) Unkeep(ctx context.Context, t Target) (admin.Done, error) {
	return c.act(ctx, t.path("unkeep"), map[string]string{"key": t.Key})
}

// SetEviction overrules the eviction mode: off, shadow, on, or config for what the
// configuration says.
func (c *Client) SetEviction(ctx context.Context, mode string) (admin.Done, error) {
	return c.act(ctx, "eviction", map[string]string{"mode": mode})
}

// Reload has the configuration read anew; with dryRun it is only told what would change.
func (c *Client) Reload(ctx context.Context, dryRun bool) (admin.Changes, error) {
	var out admin.Changes
	return out, c.post(ctx, "reload", map[string]bool{"dry_run": dryRun}, &out)
}

// Link is an address of the page at which one browser is logged in, once.
func (c *Client) Link(ctx context.Context) (admin.Link, error) {
	var out admin.Link
	return out, c.post(ctx, "link", struct{}{}, &out)
}

func (c *Client) act(ctx context.Context, what string, body any) (admin.Done, error) {
	var out admin.Done
	return out, c.post(ctx, what, body, &out)
}

func (c *Client) post(ctx context.Context, what string, body, out any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("asking the broker for %s: %w", what, err)
	}
	res, err := c.send(ctx, http.MethodPost, what, nil, bytes.NewReader(b))
	if err != nil {
		return err
	}
	return read(res, what, out)
}
