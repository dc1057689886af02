package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/live"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys are those of the sessions of the farm, by session.
func keys() map[string]string {
	st := admintest.FarmStatus()
	list, err := st.SessionList(admin.Filter{})
	if err != nil {
		panic(err)
	}
	out := map[string]string{}
	for _, s := range list.Sessions {
		out[sessions.Ref{Host: s.Host, ID: s.ID}.String()] = s.Key
	}
	return out
}

// records are some of what happened.
func records(n int) []audit.Record {
	e, err := admintest.Explain(admin.Question{User: "alice", Farm: "office"})
	if err != nil {
		panic(err)
	}
	all := []audit.Record{
		{Time: admintest.Now, Event: audit.Decided, Farm: "office", Identity: e.Identity, Decision: e.Decision, Took: time.Second},
		{Time: admintest.Now, Event: audit.ModeSet, By: "anna (socket)", Setting: "off"},
	}
	return all[:min(n, len(all))]
}

// did notes what was asked of a broker that can do everything.
type did struct{ what []string }

func (d *did) actions() admin.Actions {
	note := func(what string, parts ...string) error {
		d.what = append(d.what, what+" "+strings.Join(parts, " "))
		if strings.Contains(strings.Join(parts, " "), "broken") {
			return errors.New("the host does not answer")
		}
		return nil
	}
	word := func(on bool) string { return map[bool]string{true: "on", false: "off"}[on] }
	return admin.Actions{
		Drain: func(_ context.Context, by, host string, on bool) error { return note("drain", by, host, word(on)) },
		Message: func(_ context.Context, by string, ref sessions.Ref, title, text string) error {
			return note("message", by, ref.String(), title, text)
		},
		Logoff: func(_ context.Context, by string, ref sessions.Ref) error { return note("logoff", by, ref.String()) },
		Keep: func(_ context.Context, by string, ref sessions.Ref, until time.Time) error {
			return note("keep", by, ref.String(), time.Until(until).Round(time.Hour).String())
		},
		Unkeep:      func(_ context.Context, by string, ref sessions.Ref) error { return note("unkeep", by, ref.String()) },
		SetEviction: func(_ context.Context, by, mode string) error { return note("eviction", by, mode) },
		Reload: func(_ context.Context, by string, dry bool) (admin.Changes, error) {
			return admin.Changes{Applied: !dry, Changes: []admin.Change{{Kind: admin.ChangeLost, What: "host ts2 is gone"}}}, note("reload", by, word(dry))
		},
	}
}

func config(d *did) api.Config {
	return api.Config{
		State: admintest.NewState(), Actions: d.actions(), Recent: records, Events: live.NewHub(10, 1),
		Link: func(p auth.Person) string { return "http://127.0.0.1:1/enter?key=" + p.Name },
	}
}

// TestAnswers asks everything, and holds each answer against the document.
func TestAnswers(t *testing.T) {
	check, key := newChecker(t), keys()
	long := strings.Repeat("x", 257)
	asked := map[string]bool{}
	for _, c := range []struct {
		pattern, target, body string
		status                int
		holds                 string
		done                  string // what the broker was asked to do
	}{
		{"GET /api/v1/status", "", "", 200, `"eviction":"evict","eviction_configured":"shadow"`, ""},
		{"GET /api/v1/hosts", "", "", 200, `"name":"ts1"`, ""},
		{"GET /api/v1/sessions", "", "", 200, `"user":"alice"`, ""},
		{"GET /api/v1/sessions", "?host=ts1&user=bob", "", 200, `"user":"bob"`, ""},
		{"GET /api/v1/sessions", "?user=nobody", "", 200, `"sessions":[]`, ""},
		{"GET /api/v1/sessions", "?host=nowhere", "", 404, "nowhere", ""},
		{"GET /api/v1/connections", "", "", 200, `"client":"10.1.2.3:50123"`, ""},
		{"GET /api/v1/connections", "?host=none", "", 200, `"connections":[]`, ""},
		{"GET /api/v1/waiting", "", "", 200, `"said":"carol"`, ""},
		{"GET /api/v1/decisions", "", "", 200, `"kind":"make-room"`, ""},
		{"GET /api/v1/decisions", "?limit=1", "", 200, `"records":[{`, ""},
		{"GET /api/v1/decisions", "?limit=0", "", 400, "limit", ""},
		{"GET /api/v1/decisions", "?limit=1001", "", 400, "limit", ""},
		{"GET /api/v1/events", "?after=x", "", 400, "after", ""},
		{"GET /api/v1/explain", "?user=alice&farm=office&from=10.1.2.3", "", 200, `"kind":"make-room"`, ""},
		{"GET /api/v1/explain", "?user=alice&farm=none", "", 404, "a farm of the name none", ""},
		{"GET /api/v1/explain", "?farm=office&from=nowhere", "", 400, "not an address", ""},
		{"GET /api/v1/explain", "?farm=office&from=fe80::1%25eth0", "", 400, "not an address", ""},
		{"GET /api/v1/explain", "?farm=office&user=" + long, "", 400, "too long", ""},
		{"GET /api/v1/explain", "?farm=office&user=broken", "", 500, "the ledger", ""},
		{"GET /api/v1/me", "", "", 200, `"role":"admin"`, ""},
		{"GET /api/v1/openapi.json", "", "", 200, `"openapi"`, ""},
		{"GET /api/v1/openapi.yaml", "", "", 200, "openapi: 3.1", ""},

		{"POST /api/v1/hosts/{host}/drain", "ts1", "", 200, "takes no new sessions", "drain anna (socket) ts1 on"},
		{"POST /api/v1/hosts/{host}/drain", "broken", "{}", 500, "does not answer", "drain anna (socket) broken on"},
		{"POST /api/v1/hosts/{host}/drain", "ts1", `{"x":1}`, 400, "unknown field", ""},
		{"POST /api/v1/hosts/{host}/undrain", "ts1", "", 200, "again", "drain anna (socket) ts1 off"},
		{"POST /api/v1/hosts/{host}/message", "ts1", `{"text":"go home"}`, 200, "in 1 sessions", "message anna (socket) ts1/3 Message from the administrator go home"},
		{"POST /api/v1/hosts/{host}/message", "ts1", `{"text":"broken"}`, 200, `"failed":["CONTOSO\\alice in session 3`, "message anna (socket) ts1/3 Message from the administrator broken"},
		{"POST /api/v1/hosts/{host}/message", "lx1", `{"text":"x"}`, 409, "has not been read", ""},
		{"POST /api/v1/hosts/{host}/message", "nowhere", `{"text":"x"}`, 404, "nowhere", ""},
		{"POST /api/v1/hosts/{host}/message", "ts1", `{}`, 400, "text is missing", ""},
		{"POST /api/v1/hosts/{host}/message", "ts1", `{"text":"` + strings.Repeat("x", 2001) + `"}`, 400, "up to 2000", ""},
		{"POST /api/v1/sessions/{host}/{id}/message", "ts1/3", `{"text":"hello","title":"IT"}`, 200, "alice", "message anna (socket) ts1/3 IT hello"},
		{"POST /api/v1/sessions/{host}/{id}/message", "ts1/x", `{"text":"hello"}`, 400, "a number", ""},
		{"POST /api/v1/sessions/{host}/{id}/message", "ts1/65536", `{"text":"hello"}`, 404, "ts1/65536", ""},
		{"POST /api/v1/sessions/{host}/{id}/logoff", "ts1/4", `{"key":"` + key["ts1/4"] + `"}`, 200, "was logged off", "logoff anna (socket) ts1/4"},
		{"POST /api/v1/sessions/{host}/{id}/logoff", "ts1/4", `{}`, 400, "key is missing", ""},
		{"POST /api/v1/sessions/{host}/{id}/logoff", "ts1/4", `{"key":"0011"}`, 409, "another one by now", ""},
		{"POST /api/v1/sessions/{host}/{id}/logoff", "ts1/3", `{"key":"` + key["ts1/3"] + `"}`, 409, "only a disconnected session", ""},
		{"POST /api/v1/sessions/{host}/{id}/logoff", "ts1/0", `{"key":"x"}`, 404, "ts1/0", ""},
		{"POST /api/v1/sessions/{host}/{id}/keep", "ts1/4", `{"for":"8h"}`, 200, "is kept until", "keep anna (socket) ts1/4 8h0m0s"},
		{"POST /api/v1/sessions/{host}/{id}/keep", "ts1/4", `{"for":"-8h"}`, 400, "not a time", ""},
		{"POST /api/v1/sessions/{host}/{id}/keep", "ts1/4", `{"for":"721h"}`, 400, "720h", ""},
		{"POST /api/v1/sessions/{host}/{id}/unkeep", "ts1/4", `{}`, 200, "no longer", "unkeep anna (socket) ts1/4"},
		{"POST /api/v1/eviction", "", `{"mode":"on"}`, 200, "in every farm", "eviction anna (socket) evict"},
		{"POST /api/v1/eviction", "", `{"mode":"config"}`, 200, "configuration", "eviction anna (socket) "},
		{"POST /api/v1/eviction", "", `{"mode":"evict"}`, 400, "off, shadow, on or config", ""},
		{"POST /api/v1/eviction", "", `{"mode":"on"} {}`, 400, "goes on", ""},
		{"POST /api/v1/eviction", "", `{"mode":`, 400, "cannot be read", ""},
		{"POST /api/v1/reload", "", `{"dry_run":true}`, 200, `"applied":false`, "reload anna (socket) on"},
		{"POST /api/v1/reload", "", "", 200, `"applied":true`, "reload anna (socket) off"},
		{"POST /api/v1/link", "", "", 200, `"url":"http`, ""},
	} {
		var d did
		asked[c.pattern] = true
		method, path, _ := strings.Cut(c.pattern, " ")
		if strings.Contains(path, "{") {
			path = strings.Replace(strings.Replace(path, "{host}/{id}", c.target, 1), "{host}", c.target, 1)
		} else {
			path += c.target
		}
		req := httptest.NewRequest(method, path, strings.NewReader(c.body))
		if c.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res := httptest.NewRecorder()
		handler(config(&d)).ServeHTTP(res, req)
		if res.Code != c.status || !strings.Contains(res.Body.String(), c.holds) {
			t.Errorf("%s %s %s: %d %s; want %d with %s", method, path, c.body, res.Code, res.Body, c.status, c.holds)
		}
		if got := strings.Join(d.what, "; "); got != c.done {
			t.Errorf("%s %s %s: the broker was asked to %q, want %q", method, path, c.body, got, c.done)
		}
		check.check(t, c.pattern, res)
	}
	for _, r := range api.Routes(config(new(did))) {
		if !asked[r.Pattern] {
			t.Errorf("nothing asks %s", r.Pattern)
		}
	}
}

func TestWhatABrokerCannotDoIsAnError(t *testing.T) {
	h := handler(api.Config{State: admintest.NewState()})
	key := keys()["ts1/4"]
	for path, body := range map[string]string{
		"hosts/ts1/drain": "", "hosts/ts1/message": `{"text":"x"}`, "sessions/ts1/3/message": `{"text":"x"}`,
		"sessions/ts1/4/logoff": `{"key":"` + key + `"}`, "sessions/ts1/4/keep": `{"for":"1h"}`, "sessions/ts1/4/unkeep": "",
		"eviction": `{"mode":"off"}`, "reload": "", "link": "",
	} {
		req := httptest.NewRequest("POST", "/api/v1/"+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		res := httptest.NewRecorder()
		h.ServeHTTP(res, req)
		if res.Code < 400 {
			t.Errorf("%s: %d %s", path, res.Code, res.Body)
		}
	}
}

func TestOnlyJSONIsRead(t *testing.T) {
	var d did
	req := httptest.NewRequest("POST", "/api/v1/eviction", strings.NewReader("mode=off"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as a form of a foreign page could send it
	res := httptest.NewRecorder()
	handler(config(&d)).ServeHTTP(res, req)
	if res.Code != http.StatusUnsupportedMediaType || len(d.what) > 0 {
		t.Errorf("%d, and it did %v", res.Code, d.what)
	}
}

func TestBeforeTheFirstReading(t *testing.T) {
	s := admintest.NewState()
	s.StatusFunc = func() admin.Status { return admin.Status{Now: admintest.Now} }
	s.ReadyFunc = func() error { return errors.New("no host has been read lately") }
	h := handler(api.Config{State: s})
	for what, want := range map[string]int{"hosts": 503, "sessions": 503, "status": 200, "waiting": 200, "connections": 200} {
		res := httptest.NewRecorder()
		h.ServeHTTP(res, httptest.NewRequest("GET", "/api/v1/"+what, nil))
		if res.Code != want || strings.Contains(res.Body.String(), "null") {
			t.Errorf("%s answers %d %s", what, res.Code, res.Body)
		}
	}
}

func TestEventsAreTheRecords(t *testing.T) {
	c := config(new(did))
	for _, r := range records(2) {
		c.Events.Publish(string(r.Event), api.EventOf(r))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	res := httptest.NewRecorder()
	handler(c).ServeHTTP(res, httptest.NewRequest("GET", "/api/v1/events?after=0", nil).WithContext(ctx))
	for _, want := range []string{"id: 1\nevent: decided\ndata: {\"time\":", "id: 2\nevent: mode-set\n", `"by":"anna (socket)"`} {
		if !strings.Contains(res.Body.String(), want) {
			t.Errorf("no %q in\n%s", want, res.Body)
		}
	}
	newChecker(t).check(t, "GET /api/v1/events", res)
	// One reader is there: the next one is told to come later.
	reader, err := c.Events.Read(0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	res = httptest.NewRecorder()
	handler(c).ServeHTTP(res, httptest.NewRequest("GET", "/api/v1/events", nil))
	if res.Code != http.StatusServiceUnavailable || res.Header().Get("Retry-After") == "" {
		t.Errorf("one reader too many gets %d", res.Code)
	}
}
