// Package page is the broker's page for people: who holds which slot on which host,
// who waits, what is decided as it happens, and what can be done about it. It is
// rendered here, once for everybody; a small script puts changes in their place and
// has things done through the REST API.
package page

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/live"
	"github.com/rdpbroker/rdpbroker/broker/audit"
)

//go:embed html/*.html
var htmlFiles embed.FS

//go:embed static
var staticFiles embed.FS

const (
	// keepChanges is how many changes a page can be behind; maxReaders how many pages
	// are kept up to date.
	keepChanges = 64
	maxReaders  = 300
	// every is how often the farm is looked at while somebody looks at a page.
	every = time.Second
	// maxChange is the largest change that is sent, in bytes; after a larger one pages
	// load themselves anew.
	maxChange = 1 << 20
	// shownRecords is how many records a page begins with, and maxPending how many new
	// ones wait for the next look.
	shownRecords = 100
	maxPending   = 500
)

// Page serves the page. Make one with New, Run it, and tell it of what happens with
// Record.
type Page struct {
	state  admin.State
	recent func(n int) []audit.Record
	guard  *auth.Guard
	html   *template.Template
	hub    *live.Hub
	life   string // tells this broker's pages from those of an earlier one

	// mu guards what was rendered last.
	mu     sync.Mutex
	looked time.Time
	farm   farm

	pendingMu sync.Mutex
	pending   []audit.Record
	lost      int // records that did not fit
}

// New makes a page of the farm that state tells of. recent returns the newest n
// records, the newest first. It starts nothing.
func New(state admin.State, recent func(n int) []audit.Record, guard *auth.Guard) (*Page, error) {
	html, err := template.New("").Funcs(functions).ParseFS(htmlFiles, "html/*.html")
	if err != nil {
		return nil, fmt.Errorf("the page's templates: %w", err)
	}
	return &Page{
		state: state, recent: recent, guard: guard, html: html,
		hub: live.NewHub(keepChanges, maxReaders), life: rand.Text(),
	}, nil
}

// Routes are the page's.
func (p *Page) Routes() []auth.Route {
	return []auth.Route{
		{Pattern: "GET /{$}", Role: auth.Viewer, Handler: p.index},
		{Pattern: "GET /live", Role: auth.Viewer, Streams: true, Handler: p.live},
		{Pattern: "GET /sessions/{host}", Role: auth.Viewer, Handler: p.sessions},
		{Pattern: "GET /find", Role: auth.Viewer, Handler: p.find},
		{Pattern: "GET /static/{file}", Handler: static},
		{Pattern: "GET " + auth.LoginPath, Handler: p.loginForm},
		{Pattern: "POST " + auth.LoginPath, Handler: p.login},
		{Pattern: "GET /enter", Handler: p.enter},
		{Pattern: "POST /logout", Handler: p.logout},
	}
}

// Record tells the page of a record. It never waits.
func (p *Page) Record(r audit.Record) {
	if p.hub.Readers() == 0 {
		return
	}
	p.pendingMu.Lock()
	defer p.pendingMu.Unlock()
	if len(p.pending) == maxPending {
		p.lost++
		return
	}
	p.pending = append(p.pending, r)
}

// Run keeps the pages that are open up to date until ctx ends. The error is nil.
func (p *Page) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if p.hub.Readers() > 0 {
				p.look(0)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// look looks at the farm, unless that was done less than fresh ago, and sends what
// has changed to the pages that are open.
func (p *Page) look(fresh time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.looked) < fresh {
		return
	}
	p.looked = time.Now()
	change := p.farm.update(p, p.state.Status())
	p.pendingMu.Lock()
	records, lost := p.pending, p.lost
	p.pending, p.lost = nil, 0
	p.pendingMu.Unlock()
	for i := range records {
		change.Decisions = append(change.Decisions, p.render("record", viewRecord(&records[i])))
	}
	change.Lost = lost
	if change.empty() {
		return
	}
	data := change.json()
	kind := "change"
	if len(data) > maxChange {
		kind, data = "reload", []byte("{}")
	}
	p.hub.Publish(kind, func() []byte { return data })
}

// render is the template name with v. A template that fails shows as an empty
// place, and in the tests.
func (p *Page) render(name string, v any) string {
	var b bytes.Buffer
	if err := p.html.ExecuteTemplate(&b, name, v); err != nil {
		return ""
	}
	return b.String()
}

// write answers with a template.
func (p *Page) write(w http.ResponseWriter, status int, name string, v any) {
	var b bytes.Buffer
	if err := p.html.ExecuteTemplate(&b, name, v); err != nil {
		admin.WriteProblem(w, http.StatusInternalServerError, "the page cannot be made: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // whoever asked may be gone
}

// indexView is what the page begins with.
type indexView struct {
	Person  auth.Person
	Role    string
	CSRF    string
	Seq     uint64
	Life    string
	Now     int64 // the broker's clock, Unix time in seconds
	Version string
	Farms   []string
	Summary template.HTML
	Waiting template.HTML
	Rows    []template.HTML
	Records []recordView
}

func (p *Page) index(w http.ResponseWriter, r *http.Request) {
	p.look(every / 2)
	who := auth.PersonOf(r.Context())
	v := indexView{Person: who, Role: who.Role.String(), CSRF: who.CSRF(), Life: p.life, Now: time.Now().Unix()}
	p.mu.Lock()
	v.Seq, v.Version, v.Farms = p.hub.Last(), p.farm.version, p.farm.farms
	v.Summary, v.Waiting = template.HTML(p.farm.summary), template.HTML(p.farm.waiting)
	for _, name := range p.farm.order {
		v.Rows = append(v.Rows, template.HTML(p.farm.rows[name].html))
	}
	p.mu.Unlock()
	records := p.recent(shownRecords)
	for i := range records {
		v.Records = append(v.Records, viewRecord(&records[i]))
	}
	p.write(w, http.StatusOK, "index.html", v)
}

func (p *Page) live(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("life") != p.life {
		// A page of the broker before the last restart knows nothing of this one.
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = w.Write([]byte("event: reload\ndata: {}\n\n"))
		return
	}
	from := p.hub.Last()
	if n, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64); err == nil {
		from = n
	}
	if err := live.Serve(w, r, p.hub, from); err != nil {
		w.Header().Set("Retry-After", "10")
		admin.WriteProblem(w, http.StatusServiceUnavailable, err.Error())
	}
}

// sessions is the table of one host's sessions.
func (p *Page) sessions(w http.ResponseWriter, r *http.Request) {
	p.list(w, admin.Filter{Host: r.PathValue("host")}, false)
}

// maxPattern bounds what is looked for, in bytes.
const maxPattern = 100

// find is a table of the sessions of some users, wherever they are.
func (p *Page) find(w http.ResponseWriter, r *http.Request) {
	user := r.URL.Query().Get("user")
	if user == "" || len(user) > maxPattern {
		admin.WriteProblem(w, http.StatusBadRequest, "user is missing or too long")
		return
	}
	p.list(w, admin.Filter{User: "*" + user + "*"}, true)
}

func (p *Page) list(w http.ResponseWriter, f admin.Filter, hosts bool) {
	status := p.state.Status()
	if status.Snapshot == nil {
		admin.WriteProblem(w, http.StatusServiceUnavailable, "no host has been read yet")
		return
	}
	list, err := status.SessionList(f)
	if err != nil {
		admin.WriteError(w, err)
		return
	}
	p.write(w, http.StatusOK, "sessions", viewSessions(list, hosts))
}

// static serves the script and the style.
func static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind, ok := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
	text, err := staticFiles.ReadFile("static/" + path.Base(name))
	if !ok || err != nil {
		admin.WriteProblem(w, http.StatusNotFound, "there is no such file")
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(text) // whoever asked may be gone
}

// loginView is the form to log in with.
type loginView struct{ Name, Error string }

func (p *Page) loginForm(w http.ResponseWriter, r *http.Request) {
	if auth.PersonOf(r.Context()).Role != auth.Anybody {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	p.write(w, http.StatusOK, "login.html", loginView{})
}

func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	name := r.PostFormValue("name")
	if err := p.guard.Login(w, r, name, r.PostFormValue("password")); err != nil {
		p.refuseLogin(w, admin.Clean(name, 64), err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) enter(w http.ResponseWriter, r *http.Request) {
	if err := p.guard.Enter(w, r, r.URL.Query().Get("key")); err != nil {
		p.refuseLogin(w, "", err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) refuseLogin(w http.ResponseWriter, name string, err error) {
	status := http.StatusForbidden
	var why *auth.LoginError
	if errors.As(err, &why) && why.Wait > 0 {
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", strconv.Itoa(int(why.Wait/time.Second)+1))
	}
	p.write(w, status, "login.html", loginView{Name: name, Error: err.Error()})
}

func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	p.guard.Logout(w, r)
	http.Redirect(w, r, auth.LoginPath, http.StatusSeeOther)
}
