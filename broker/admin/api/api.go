// Package api is the broker's REST API under /api/v1: what there is, what was
// decided, as it happens too, and what operators may have done. openapi.yaml
// describes it, and a test holds the two together.
package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/live"
	"github.com/rdpbroker/rdpbroker/broker/audit"
)

// Config is what the API works with.
type Config struct {
	State   admin.State
	Actions admin.Actions
	// Recent returns the newest n records, the newest first.
	Recent func(n int) []audit.Record
	// Events are the records as they happen; see package live.
	Events *live.Hub
	// Link makes an address of the page at which one browser is logged in as p,
	// once; nil where there is no page.
	Link func(p auth.Person) string
}

// Base is the path under which everything of the API is.
const Base = "/api/v1"

// Routes are the API's.
func Routes(c Config) []auth.Route {
	a := &api{c}
	return []auth.Route{
		{Pattern: "GET " + Base + "/status", Role: auth.Viewer, Handler: a.status},
		{Pattern: "GET " + Base + "/hosts", Role: auth.Viewer, Handler: a.hosts},
		{Pattern: "GET " + Base + "/sessions", Role: auth.Viewer, Handler: a.sessions},
		{Pattern: "GET " + Base + "/connections", Role: auth.Viewer, Handler: a.connections},
		{Pattern: "GET " + Base + "/waiting", Role: auth.Viewer, Handler: a.waiting},
		{Pattern: "GET " + Base + "/decisions", Role: auth.Viewer, Handler: a.decisions},
		{Pattern: "GET " + Base + "/events", Role: auth.Viewer, Streams: true, Handler: a.events},
		{Pattern: "GET " + Base + "/explain", Role: auth.Viewer, Handler: a.explain},
		{Pattern: "GET " + Base + "/me", Role: auth.Viewer, Handler: a.me},
		{Pattern: "GET " + Base + "/openapi.json", Role: auth.Viewer, Handler: document("application/json", documentJSON)},
		{Pattern: "GET " + Base + "/openapi.yaml", Role: auth.Viewer, Handler: document("application/yaml", documentYAML)},

		{Pattern: "POST " + Base + "/sessions/{host}/{id}/message", Role: auth.Helpdesk, Handler: a.message},
		{Pattern: "POST " + Base + "/sessions/{host}/{id}/logoff", Role: auth.Helpdesk, Handler: a.logoff},
		{Pattern: "POST " + Base + "/sessions/{host}/{id}/keep", Role: auth.Helpdesk, Handler: a.keep},
		{Pattern: "POST " + Base + "/sessions/{host}/{id}/unkeep", Role: auth.Helpdesk, Handler: a.unkeep},
		{Pattern: "POST " + Base + "/hosts/{host}/message", Role: auth.Helpdesk, Handler: a.messageAll},
		{Pattern: "POST " + Base + "/hosts/{host}/drain", Role: auth.Admin, Handler: a.drain(true)},
		{Pattern: "POST " + Base + "/hosts/{host}/undrain", Role: auth.Admin, Handler: a.drain(false)},
		{Pattern: "POST " + Base + "/eviction", Role: auth.Admin, Handler: a.eviction},
		{Pattern: "POST " + Base + "/reload", Role: auth.Admin, Handler: a.reload},
		{Pattern: "POST " + Base + "/link", Role: auth.Admin, LocalOnly: true, Handler: a.link},
	}
}

// Health are the routes that any monitoring may ask: /healthz (200 while the
// process answers) and /readyz (200 while users can be placed, else 503 with the
// reason); and /metrics, by metrics, for role and above.
func Health(s admin.State, metrics http.Handler, role auth.Role) []auth.Route {
	return []auth.Route{
		{Pattern: "GET /metrics", Role: role, Handler: metrics.ServeHTTP},
		{Pattern: "GET /healthz", Handler: func(w http.ResponseWriter, _ *http.Request) { well(w) }},
		{Pattern: "GET /readyz", Handler: func(w http.ResponseWriter, _ *http.Request) {
			if err := s.Ready(); err != nil {
				admin.WriteProblem(w, http.StatusServiceUnavailable, err.Error())
				return
			}
			well(w)
		}},
	}
}

type api struct{ Config }

func well(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // whoever asked may be gone
}

func document(kind string, text []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(text) // whoever asked may be gone
	}
}

func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		admin.WriteProblem(w, http.StatusInternalServerError, "the answer cannot be written as JSON")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // whoever asked may be gone
}

func answerOr(w http.ResponseWriter, v any, err error) {
	if err != nil {
		admin.WriteError(w, err)
		return
	}
	answer(w, v)
}

// errCannot says that an action cannot be done by this broker.
var errCannot = errors.New("this broker cannot do that")
