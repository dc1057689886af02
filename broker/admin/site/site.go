// Package site joins the rooms of the admin surface into the handlers that are
// served: one for the Unix socket, one for admin.listen, one for monitoring. It
// holds the server and the socket too.
package site

import (
	"net/http"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/page"
)

// Public answers what any monitoring may ask: /metrics, /healthz and /readyz.
func Public(s admin.State, metrics http.Handler) http.Handler {
	return auth.New(auth.Config{}).Handler(api.Health(s, metrics, auth.Anybody), false)
}

// Local answers the API at the Unix socket, to everybody who may open it. guard
// makes the links that the API hands out.
func Local(c api.Config, metrics http.Handler, guard *auth.Guard) http.Handler {
	return guard.Handler(append(api.Routes(c), api.Health(c.State, metrics, auth.Anybody)...), true)
}

// Remote answers the page and the API on TCP, to those whom guard knows.
func Remote(c api.Config, p *page.Page, metrics http.Handler, guard *auth.Guard) http.Handler {
	return guard.Handler(RemoteRoutes(c, p, metrics), false)
}

// RemoteRoutes are all that Remote answers.
func RemoteRoutes(c api.Config, p *page.Page, metrics http.Handler) []auth.Route {
	routes := append(api.Routes(c), p.Routes()...)
	return append(routes, api.Health(c.State, metrics, auth.Viewer)...)
}
