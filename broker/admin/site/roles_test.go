package site_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/page"
)

// path is an address that a pattern matches, of a session that exists.
func path(pattern string) string {
	_, p, _ := strings.Cut(pattern, " ")
	p = strings.Replace(p, "/explain", "/explain?farm=office", 1)
	return strings.NewReplacer("{host}", "ts1", "{id}", "4", "{file}", "page.css", "{$}", "").Replace(p)
}

// TestEveryRouteWithEveryRole: the table of routes is what is served, and whoever
// has less than a route's role never gets past the door, by whatever way they are
// known; whoever has it does.
func TestEveryRouteWithEveryRole(t *testing.T) {
	b := start(t)
	type who struct {
		name string
		role auth.Role
		v    *visitor
	}
	all := []who{{"nobody", auth.Anybody, b.visitor(t)}}
	for _, role := range auth.Roles()[1:] {
		all = append(all, who{role.String() + " by password", role, b.login(t, role.String())})
		machine := b.visitor(t)
		machine.header.Set("Authorization", "Bearer "+b.tokens[role.String()])
		all = append(all, who{role.String() + " by token", role, machine})
	}
	wrong := b.visitor(t)
	wrong.header.Set("Authorization", "Bearer rdpb_WRONG")
	forger := b.visitor(t) // not from where the proxy is
	forger.header.Set("X-Forwarded-User", "admin")
	all = append(all, who{"a wrong token", auth.Anybody, wrong}, who{"a forged header", auth.Anybody, forger})

	if len(b.routes) < 25 {
		t.Fatalf("only %d routes", len(b.routes))
	}
	for _, w := range all {
		for _, r := range b.routes {
			method, _, _ := strings.Cut(r.Pattern, " ")
			if strings.HasSuffix(r.Pattern, "/logout") || strings.HasSuffix(r.Pattern, "POST /login") {
				continue // they end what the rest needs; see TestLogin
			}
			status, text, _ := w.v.do(t, method, path(r.Pattern), "application/json", map[bool]string{true: "{}"}[method == "POST"])
			switch {
			case r.LocalOnly:
				if status != http.StatusNotFound {
					t.Errorf("%s asks %s, which is for the socket: %d", w.name, r.Pattern, status)
				}
			case w.role >= r.Role:
				if status == http.StatusUnauthorized || status == http.StatusForbidden && r.Pattern != "GET /enter" || status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
					t.Errorf("%s may not ask %s: %d %s", w.name, r.Pattern, status, text)
				}
			case w.role == auth.Anybody:
				if status != http.StatusUnauthorized {
					t.Errorf("%s asks %s: %d %s", w.name, r.Pattern, status, text)
				}
			case status != http.StatusForbidden:
				t.Errorf("%s asks %s: %d %s", w.name, r.Pattern, status, text)
			}
			did := b.asked()
			if len(did) > 0 && (w.role < r.Role || method != "POST") {
				t.Errorf("%s asked %s, and the broker did %v", w.name, r.Pattern, did)
			}
			for _, d := range did {
				if !strings.HasPrefix(d, strings.Fields(w.name)[0]) {
					t.Errorf("%s asked %s, and the audit would say %q", w.name, r.Pattern, d)
				}
			}
		}
	}
}

// TestOtherMethodsAndAddresses: what is not in the table is not served.
func TestOtherMethodsAndAddresses(t *testing.T) {
	b := start(t)
	v := b.login(t, "admin")
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/api/v1/hosts", 405}, {"GET", "/api/v1/reload", 405}, {"DELETE", "/api/v1/sessions", 405}, {"PUT", "/metrics", 405},
		{"GET", "/api/v1/nothing", 404}, {"GET", "/nothing", 404}, {"GET", "/static/nothing.css", 404}, {"GET", "/static/..%2fpage.go", 404},
		{"POST", "/api/v1/link", 404}, {"GET", "/api/v1/hosts/", 404},
	} {
		status, text, header := v.do(t, c.method, c.path, "", "")
		if status != c.want || header.Get("Content-Type") != admin.ProblemType {
			t.Errorf("%s %s: %d %s %s", c.method, c.path, status, header.Get("Content-Type"), text)
		}
	}
}

// TestForeignPagesChangeNothing: neither a form nor a script of another origin, nor
// a request without what only our page knows.
func TestForeignPagesChangeNothing(t *testing.T) {
	b := start(t)
	token := b.login(t, "admin").header.Get(auth.HeaderCSRF)
	for name, h := range map[string]http.Header{
		"a foreign script":          {"Origin": {"https://evil.example"}, auth.HeaderCSRF: {token}},
		"a foreign form":            {"Sec-Fetch-Site": {"cross-site"}, auth.HeaderCSRF: {token}},
		"without the page's secret": {},
		"with another's secret":     {auth.HeaderCSRF: {strings.Repeat("0", len(token))}},
	} {
		v := b.login(t, "admin")
		v.header = h
		status, text, _ := v.do(t, "POST", "/api/v1/eviction", "application/json", `{"mode":"off"}`)
		if did := b.asked(); status != http.StatusForbidden || len(did) > 0 {
			t.Errorf("%s: %d %s, and the broker did %v", name, status, text, did)
		}
	}
	v := b.login(t, "admin")
	v.header.Set("Sec-Fetch-Site", "same-origin")
	if status, text, _ := v.do(t, "POST", "/api/v1/eviction", "application/json", `{"mode":"off"}`); status != 200 || len(b.asked()) != 1 {
		t.Errorf("our own page: %d %s", status, text)
	}
	evil := b.visitor(t)
	evil.header.Set("Origin", "https://evil.example")
	if status, _, _ := evil.do(t, "POST", "/login", "application/x-www-form-urlencoded", url.Values{"name": {"admin"}, "password": {password}}.Encode()); status != http.StatusForbidden {
		t.Errorf("a login from a foreign page: %d", status)
	}
}

func TestLogin(t *testing.T) {
	b := start(t)
	form := func(v *visitor, name, pw string) (int, string, http.Header) {
		return v.do(t, "POST", "/login", "application/x-www-form-urlencoded", url.Values{"name": {name}, "password": {pw}}.Encode())
	}
	v := b.login(t, "viewer")
	if status, text, _ := v.do(t, "GET", "/api/v1/me", "", ""); status != 200 || !strings.Contains(text, `"via":"password"`) {
		t.Errorf("me: %d %s", status, text)
	}
	// Whoever is no longer in the file is out at once; and back with another role.
	text, err := os.ReadFile(b.people)
	if err != nil {
		t.Fatal(err)
	}
	less, _ := auth.Remove(text, auth.Entry{Name: "viewer"})
	if err := os.WriteFile(b.people, less, 0o600); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if status, _, _ := v.do(t, "GET", "/api/v1/me", "", ""); status == http.StatusUnauthorized {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("removed, and still %d", status)
		}
		time.Sleep(100 * time.Millisecond)
	}
	// Logged out is out.
	v = b.login(t, "helpdesk")
	if status, _, _ := v.do(t, "POST", "/logout", "", ""); status != http.StatusSeeOther {
		t.Errorf("logout: %d", status)
	}
	if status, _, _ := v.do(t, "GET", "/api/v1/me", "", ""); status != http.StatusUnauthorized {
		t.Errorf("after logout: %d", status)
	}
	// People are sent to the login; programs are told.
	v.header = http.Header{"Accept": {"text/html"}}
	if status, _, h := v.do(t, "GET", "/", "", ""); status != http.StatusSeeOther || h.Get("Location") != "/login" {
		t.Errorf("a browser without a login: %d to %s", status, h.Get("Location"))
	}
	// Wrong passwords, of names that are there and are not, look the same, and are few.
	v = b.visitor(t)
	for i := range 10 {
		name := []string{"admin", "nobody"}[i%2]
		if status, text, _ := form(v, name, "wrong"); status != http.StatusForbidden || !strings.Contains(text, "nobody with this name and password") {
			t.Fatalf("wrong password %d: %d %s", i, status, text)
		}
	}
	status, text2, h := form(v, "admin", password)
	if status != http.StatusTooManyRequests || h.Get("Retry-After") == "" || !strings.Contains(text2, "too many wrong passwords") {
		t.Errorf("after ten wrong passwords the right one gets %d %s", status, text2)
	}
}

// TestLinks: good once, for one browser.
func TestLinks(t *testing.T) {
	b := start(t)
	secret := b.guard.Link(auth.Person{Name: "root", Role: auth.Admin, Via: "socket"})
	v := b.visitor(t)
	if status, _, h := v.do(t, "GET", "/enter?key="+secret, "", ""); status != http.StatusSeeOther || h.Get("Location") != "/" {
		t.Errorf("a good link: %d", status)
	}
	if status, text, _ := v.do(t, "GET", "/api/v1/me", "", ""); status != 200 || !strings.Contains(text, `{"name":"root","role":"admin","via":"link"}`) {
		t.Errorf("me: %d %s", status, text)
	}
	for _, key := range []string{secret, "", "x"} {
		other := b.visitor(t)
		if status, text, _ := other.do(t, "GET", "/enter?key="+key, "", ""); status != http.StatusForbidden || !strings.Contains(text, "rdpbroker page") {
			t.Errorf("the link %q: %d", key, status)
		}
		if status, _, _ := other.do(t, "GET", "/api/v1/me", "", ""); status != http.StatusUnauthorized {
			t.Errorf("after the link %q: %d", key, status)
		}
	}
}

// TestTheProxysWord counts from where the proxy is, for those in the file.
func TestTheProxysWord(t *testing.T) {
	b := start(t)
	ask := func(from, name string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/api/v1/me", nil)
		r.RemoteAddr = from + ":1234"
		r.Header.Set("X-Forwarded-User", name)
		w := httptest.NewRecorder()
		b.Config.Handler.ServeHTTP(w, r)
		return w
	}
	if w := ask("127.0.0.9", "HELPDESK"); w.Code != 200 || !strings.Contains(w.Body.String(), `{"name":"helpdesk","role":"helpdesk","via":"header"}`) {
		t.Errorf("the proxy's word: %d %s", w.Code, w.Body)
	}
	for from, name := range map[string]string{"127.0.0.8": "admin", "127.0.0.9": "stranger", "[::1]": "admin"} {
		if w := ask(from, name); w.Code != http.StatusUnauthorized {
			t.Errorf("%s from %s: %d %s", name, from, w.Code, w.Body)
		}
	}
	// A page behind the proxy needs its secret all the same.
	r := httptest.NewRequest("POST", "/api/v1/eviction", strings.NewReader(`{"mode":"off"}`))
	r.RemoteAddr = "127.0.0.9:1"
	r.Header.Set("X-Forwarded-User", "admin")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	b.Config.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || len(b.asked()) > 0 {
		t.Errorf("a change without the page's secret: %d %s", w.Code, w.Body)
	}
}

// TestHeaders: nothing is framed, sniffed, cached or run from elsewhere.
func TestHeaders(t *testing.T) {
	b := start(t)
	for _, p := range []string{"/login", "/healthz", "/api/v1/hosts", "/static/page.js", "/nothing"} {
		_, _, h := b.visitor(t).do(t, "GET", p, "", "")
		csp := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self';") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy is %s", p, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q", p, name, got)
			}
		}
		if h.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: strict transport without TLS", p)
		}
	}
}

// TestOverTLS: the cookie is for TLS and this host only.
func TestOverTLS(t *testing.T) {
	b := start(t)
	file, err := auth.OpenFile(b.people, nil)
	if err != nil {
		t.Fatal(err)
	}
	guard := auth.New(auth.Config{People: file, Secure: true})
	p, err := page.New(b.state, b.recent, guard)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(guard.Handler(p.Routes(), false))
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	defer srv.Close()
	c := srv.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.PostForm(srv.URL+"/login", url.Values{"name": {"admin"}, "password": {password}})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	cookies := res.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "__Host-rdpbroker" || !cookies[0].Secure || !cookies[0].HttpOnly || cookies[0].Path != "/" || cookies[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie is %v", cookies)
	}
	if res.Header.Get("Strict-Transport-Security") == "" {
		t.Error("no strict transport")
	}
}
