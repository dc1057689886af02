package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func ask(h http.Handler, method, target string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, target, nil))
	return rec
}

func TestAnswers(t *testing.T) {
	s := newFake()
	long := strings.Repeat("x", maxUser+1)
	for _, c := range []struct {
		method, target string
		public, local  int    // status
		holds          string // in the local answer
	}{
		{"GET", "/healthz", 200, 200, "ok"},
		{"HEAD", "/healthz", 200, 200, ""},
		{"GET", "/readyz", 200, 200, "ok"},
		{"GET", "/metrics", 200, 200, "rdpbroker_up 1"},
		{"GET", "/api/v1/hosts", 404, 200, `"name":"ts1"`},
		{"GET", "/api/v1/sessions", 404, 200, `"user":"alice"`},
		{"GET", "/api/v1/sessions?host=nowhere", 404, 404, "nowhere"},
		{"GET", "/api/v1/explain?user=alice&farm=office&from=10.1.2.3", 404, 200, `"kind":"make-room"`},
		{"GET", "/api/v1/explain?user=alice&farm=none", 404, 404, "a farm of the name none"},
		{"GET", "/api/v1/explain?user=alice&farm=office&from=nowhere", 404, 400, "not an address"},
		{"GET", "/api/v1/explain?farm=office&from=fe80::1%25eth0", 404, 400, "not an address"},
		{"GET", "/api/v1/explain?farm=office&user=" + long, 404, 400, "too long"},
		{"GET", "/api/v1/explain?farm=office&user=broken", 404, 500, "the ledger"},
		{"GET", "/", 404, 404, "nothing at /"},
		{"GET", "/api/v1/hosts/", 404, 404, "nothing at"},
		{"GET", "/" + url.PathEscape("\x1b[2J"), 404, 404, `\\x1b[2J`},
		{"POST", "/api/v1/hosts", 405, 405, "only GET"},
		{"DELETE", "/metrics", 405, 405, "only GET"},
	} {
		pub, loc := ask(Public(s, scraped), c.method, c.target), ask(Local(s, scraped), c.method, c.target)
		if pub.Code != c.public || loc.Code != c.local {
			t.Errorf("%s %s: %d in public and %d locally, want %d and %d", c.method, c.target, pub.Code, loc.Code, c.public, c.local)
		}
		if !strings.Contains(loc.Body.String(), c.holds) {
			t.Errorf("%s %s: no %q in %s", c.method, c.target, c.holds, loc.Body)
		}
		for _, res := range []*httptest.ResponseRecorder{pub, loc} {
			if res.Code >= 400 {
				checkProblem(t, c.target, res)
			}
			if got := res.Header().Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s %s may be cached: %q", c.method, c.target, got)
			}
		}
	}
}

func checkProblem(t *testing.T, target string, res *httptest.ResponseRecorder) {
	t.Helper()
	var p problemBody
	if err := json.Unmarshal(res.Body.Bytes(), &p); err != nil || p.Status != res.Code || p.Title == "" {
		t.Errorf("%s: %s is no problem (%v)", target, res.Body, err)
	}
	if got := res.Header().Get("Content-Type"); got != problemType {
		t.Errorf("%s: the problem is of type %s", target, got)
	}
}

func TestNotReady(t *testing.T) {
	s := newFake()
	s.ready = func() error { return errors.New("no host of farm office could be read") }
	for _, h := range []http.Handler{Public(s, scraped), Local(s, scraped)} {
		res := ask(h, "GET", "/readyz")
		if res.Code != http.StatusServiceUnavailable || !strings.Contains(res.Body.String(), "farm office") {
			t.Errorf("/readyz answers %d %s", res.Code, res.Body)
		}
		if res := ask(h, "GET", "/healthz"); res.Code != 200 {
			t.Errorf("/healthz answers %d", res.Code)
		}
	}
}

func TestBeforeTheFirstReading(t *testing.T) {
	s := newFake()
	s.status = func() Status { return Status{Now: now} }
	for _, what := range []string{"hosts", "sessions"} {
		if res := ask(Local(s, scraped), "GET", "/api/v1/"+what); res.Code != http.StatusServiceUnavailable {
			t.Errorf("%s answers %d %s", what, res.Code, res.Body)
		}
	}
}

func TestEmptyListsAreLists(t *testing.T) {
	s := newFake()
	s.status = func() Status {
		st := farmStatus()
		st.Reservations, st.Waiting = nil, nil
		return st
	}
	if res := ask(Local(s, scraped), "GET", "/api/v1/hosts"); strings.Contains(res.Body.String(), "null") {
		t.Errorf("null in %s", res.Body)
	}
	if res := ask(Local(s, scraped), "GET", "/api/v1/sessions?user=nobody"); !strings.Contains(res.Body.String(), `"sessions":[]`) {
		t.Errorf("no empty list in %s", res.Body)
	}
}
