package site_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/live"
	"github.com/rdpbroker/rdpbroker/broker/admin/page"
	"github.com/rdpbroker/rdpbroker/broker/admin/site"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions"
)

const password = "correct horse"

// broker is the admin surface of a broker that exists in the test only.
type broker struct {
	*httptest.Server
	routes []auth.Route
	guard  *auth.Guard
	page   *page.Page
	people string            // the file
	tokens map[string]string // by role
	state  *admintest.State

	mu      sync.Mutex
	did     []string // what was asked of the broker
	records []audit.Record
}

func (b *broker) note(format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.did = append(b.did, fmt.Sprintf(format, args...))
	return nil
}

func (b *broker) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.did
	b.did = nil
	return out
}

// record lets something happen.
func (b *broker) record(r audit.Record) {
	b.mu.Lock()
	b.records = append([]audit.Record{r}, b.records...)
	b.mu.Unlock()
	b.page.Record(r)
}

func (b *broker) recent(n int) []audit.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.records[:min(n, len(b.records))]
}

// start serves a farm at a loopback address, to people called after their roles.
func start(t *testing.T) *broker {
	t.Helper()
	b := &broker{people: filepath.Join(t.TempDir(), "people"), tokens: map[string]string{}, state: admintest.NewState()}
	var text []byte
	for _, role := range auth.Roles()[1:] {
		e, err := auth.NewPerson(role.String(), role, password)
		if err != nil {
			t.Fatal(err)
		}
		m, token, err := auth.NewMachine(role.String()+"-machine", role, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		b.tokens[role.String()] = token
		text = auth.Put(auth.Put(text, e), m)
	}
	if err := os.WriteFile(b.people, text, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := auth.OpenFile(b.people, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.guard = auth.New(auth.Config{People: file, Header: "X-Forwarded-User", HeaderFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}})
	if b.page, err = page.New(b.state, b.recent, b.guard); err != nil {
		t.Fatal(err)
	}
	c := api.Config{
		State: b.state, Recent: b.recent, Events: live.NewHub(10, 100),
		Actions: admin.Actions{
			Drain: func(_ context.Context, by, host string, on bool) error {
				return b.note("%s drains %s: %t", by, host, on)
			},
			Message: func(_ context.Context, by string, ref sessions.Ref, _, text string) error {
				return b.note("%s tells %s: %s", by, ref, text)
			},
			Logoff: func(_ context.Context, by string, ref sessions.Ref) error { return b.note("%s logs off %s", by, ref) },
			Keep: func(_ context.Context, by string, ref sessions.Ref, until time.Time) error {
				return b.note("%s keeps %s for %s", by, ref, time.Until(until).Round(time.Hour))
			},
			Unkeep:      func(_ context.Context, by string, ref sessions.Ref) error { return b.note("%s unkeeps %s", by, ref) },
			SetEviction: func(_ context.Context, by, mode string) error { return b.note("%s sets eviction %q", by, mode) },
			Reload: func(_ context.Context, by string, dry bool) (admin.Changes, error) {
				return admin.Changes{Applied: !dry, Changes: []admin.Change{{Kind: admin.ChangeLost, What: "host ts2 is gone"}}, Slots: -2}, b.note("%s reloads, dry: %t", by, dry)
			},
		},
	}
	b.routes = site.RemoteRoutes(c, b.page, admintest.Scraped)
	b.Server = httptest.NewServer(site.Remote(c, b.page, admintest.Scraped, b.guard))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.page.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		b.CloseClientConnections()
		b.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// visitor is somebody with a browser, or a machine.
type visitor struct {
	b      *broker
	client *http.Client
	header http.Header
}

func (b *broker) visitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Transport: b.Client().Transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &visitor{b: b, client: c, header: http.Header{}}
}

func (v *visitor) do(t *testing.T, method, path, kind, body string) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, v.b.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = v.header.Clone()
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return res.StatusCode, "", res.Header // it goes on
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header
}

var csrf = regexp.MustCompile(`data-csrf="([^"]+)"`)

// login logs in with a password, and takes what the page gives to be sent along.
func (b *broker) login(t *testing.T, name string) *visitor {
	t.Helper()
	v := b.visitor(t)
	status, _, _ := v.do(t, "POST", "/login", "application/x-www-form-urlencoded", url.Values{"name": {name}, "password": {password}}.Encode())
	if status != http.StatusSeeOther {
		t.Fatalf("the login of %s: %d", name, status)
	}
	_, text, _ := v.do(t, "GET", "/", "", "")
	found := csrf.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("the page of %s is\n%s", name, text)
	}
	v.header.Set(auth.HeaderCSRF, found[1])
	return v
}
