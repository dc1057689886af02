package daemon_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/webhook"
)

// TestWebhook: whoever is logged off is told of, to whom the newest configuration
// says, and the audit of it all holds.
func TestWebhook(t *testing.T) {
	t.Parallel()
	got := make(chan webhook.Message, 10)
	rc := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m webhook.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || !strings.HasPrefix(r.Header.Get("webhook-signature"), "v1,") {
			t.Errorf("a message without sense or signature: %v", err)
		}
		got <- m
	}))
	defer rc.Close()
	ts1 := startWindows(t, "ts1", full(2), away("alice", time.Hour), working("bob"))
	o := newOffice(t, ts1)
	o.write(t, "secret", "a secret\n")
	o.top += "identity: {users: ['CONTOSO\\carol']}\n"
	without := o.top
	o.top += "audit: {file: audit.jsonl, webhook: {url: '" + rc.URL + "', secret_file: secret, undelivered: undelivered.jsonl}}\n"
	with := o.top
	o.top = without
	s := o.open(t)
	o.top = with
	s.reload(t) // it was not there at the start
	s.call(t, "", "carol").connected()
	select {
	case m := <-got:
		if m.Record.Event != audit.Evicted || m.Record.Decision.Victim.Session.Account.User != "alice" || !strings.Contains(m.Text, `costs ts1/`) {
			t.Errorf("%+v", m)
		}
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
	s.untilMetric(t, `rdpbroker_webhook_messages_total{outcome="delivered"}`, 1)
	s.kill()
	s.stop()
	s.finish(t)

	files, err := audit.Files(o.path("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	head, err := audit.KeptHead(o.path("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := audit.Verify(context.Background(), audit.Check{Files: files, Heads: []audit.Head{head}, Whole: true})
	if err != nil || v.Broken != nil || v.Lines < 3 || v.Head != head {
		t.Errorf("%+v, %v, %v", v, v.Broken, err)
	}
}

// TestResend sends what was given up, by the configuration alone.
func TestResend(t *testing.T) {
	t.Parallel()
	o := newOffice(t, unreachable(t, "ts1"))
	o.top += "audit: {file: '', webhook: {url: 'http://127.0.0.1:1/', undelivered: undelivered.jsonl}}\n"
	o.write(t, "undelivered.jsonl", `{"time":"2026-03-01T08:30:00Z","tries":5,"error":"x","message":{"id":"msg_1","record":{"event":"evicted","farm":"office"}}}`+"\n")
	if done, err := daemon.Resend(t.Context(), o.parse(t), "test"); err != nil || done.Kept != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	rc := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") != "msg_1" || r.Header.Get("User-Agent") != "rdpbroker/test" {
			t.Errorf("%v", r.Header)
		}
	}))
	defer rc.Close()
	cfg := o.parse(t)
	cfg.Audit.Webhook.URL = rc.URL
	if done, err := daemon.Resend(t.Context(), cfg, "test"); err != nil || done.Delivered != 1 || done.Kept != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}
