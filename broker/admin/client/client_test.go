package client_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/admin/site"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves h at a Unix socket until the test ends, and returns its path.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "adm") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "admin.sock")
	ln, err := site.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- site.Serve(ctx, ln, h, site.Options{}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestClientAndServer(t *testing.T) {
	path := serve(t, site.Local(api.Config{State: admintest.NewState()}, admintest.Scraped, auth.New(auth.Config{})))
	c, ctx := client.NewClient(path), t.Context()
	same := cmp.Options{cmpopts.EquateComparable(admintest.Client7), cmpopts.EquateEmpty()}

	st := admintest.FarmStatus()
	hosts, err := c.Hosts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := st.HostList()
	want.Waiting[1].Identity.Said = strings.ToValidUTF8(admintest.Hostile, "\ufffd") // JSON is text
	if d := cmp.Diff(want, hosts, same); d != "" {
		t.Errorf("hosts: -want +got:\n%s", d)
	}
	list, err := c.Sessions(ctx, admin.Filter{Host: "ts1", User: `CONTOSO\*`})
	if err != nil {
		t.Fatal(err)
	}
	wantList, err := st.SessionList(admin.Filter{Host: "ts1"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wantList, list, same); d != "" {
		t.Errorf("sessions: -want +got:\n%s", d)
	}
	q := admin.Question{User: `CONTOSO\alice & co`, From: admintest.Client7, Farm: "office"}
	got, err := c.Explain(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if got.Identity.Said != q.User || got.Identity.Client != q.From || got.Decision.Victim == nil {
		t.Errorf("explain: %+v", got)
	}

	q.At, q.WhatIf = admintest.Now.Add(2*time.Hour), []string{"eviction.min_disconnected=5m", "farms.office.balance=fill-first"}
	if got, err = c.Explain(ctx, q); err != nil || !got.At.Equal(q.At) || !slices.Equal(got.WhatIf, q.WhatIf) {
		t.Errorf("explain another time and policy: %+v, %v", got, err)
	}

	var answer *client.AnswerError
	if _, err := c.Explain(ctx, admin.Question{Farm: "none"}); !errors.As(err, &answer) || answer.Status != 404 || !strings.Contains(err.Error(), "the name none") {
		t.Errorf("explain in no farm: %v", err)
	}
	if _, err := c.Sessions(ctx, admin.Filter{Host: "\x1b[2J"}); !errors.As(err, &answer) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("sessions on no host: %q", err)
	}
}

func TestClientTellsWhatIsWrong(t *testing.T) {
	_, err := client.NewClient(filepath.Join(t.TempDir(), "none.sock")).Hosts(t.Context())
	if err == nil || !strings.Contains(err.Error(), "is it running") || strings.Contains(err.Error(), "http://") {
		t.Errorf("without a broker: %v", err)
	}

	serveRaw := func(h http.HandlerFunc) *client.Client { return client.NewClient(serve(t, h)) }
	c := serveRaw(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	if _, err := c.Hosts(t.Context()); err == nil || !strings.Contains(err.Error(), "reading the broker's hosts") {
		t.Errorf("an answer that is no JSON: %v", err)
	}
	c = serveRaw(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[2J", http.StatusBadGateway) })
	if _, err := c.Hosts(t.Context()); err == nil || err.Error() != "the broker answers 502 Bad Gateway" {
		t.Errorf("an error that is no problem: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c = serveRaw(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if _, err := c.Hosts(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("when the caller gives up: %v", err)
	}
}
