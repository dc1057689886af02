package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
)

// Public answers what any monitoring may ask: /metrics, by metrics, /healthz
// (200 while the process answers) and /readyz (200 while users can be placed,
// else 503 with the reason).
func Public(s State, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	public(mux, s, metrics)
	return readOnly(mux)
}

// Local answers all that Public does, and under /api/v1 what only operators may
// see: hosts, sessions, explain. Serve it on a Unix socket only: it asks nobody
// who they are.
func Local(s State, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	public(mux, s, metrics)
	mux.HandleFunc("/api/v1/hosts", func(w http.ResponseWriter, r *http.Request) {
		if status, ok := snapshot(w, s); ok {
			answer(w, status.hosts())
		}
	})
	mux.HandleFunc("/api/v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		status, ok := snapshot(w, s)
		if !ok {
			return
		}
		out, err := status.sessions(Filter{Host: q.Get("host"), User: q.Get("user")})
		answerOr(w, out, err)
	})
	mux.HandleFunc("/api/v1/explain", func(w http.ResponseWriter, r *http.Request) {
		q, err := question(r)
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		out, err := s.Explain(q)
		answerOr(w, out, err)
	})
	return readOnly(mux)
}

func public(mux *http.ServeMux, s State, metrics http.Handler) {
	mux.Handle("/metrics", metrics)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { ok(w) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			problem(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		ok(w)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "there is nothing at "+clean(r.URL.Path, 128))
	})
}

// readOnly refuses whatever is not a plain question.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			problem(w, http.StatusMethodNotAllowed, "only GET and HEAD are answered")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// snapshot is the status, if there is a picture of the farm yet.
func snapshot(w http.ResponseWriter, s State) (Status, bool) {
	status := s.Status()
	if status.Snapshot == nil {
		problem(w, http.StatusServiceUnavailable, "no host has been read yet")
		return status, false
	}
	return status, true
}

// maxUser bounds what a question may say; a cookie is shorter.
const maxUser = 256

func question(r *http.Request) (Question, error) {
	v := r.URL.Query()
	q := Question{User: v.Get("user"), Farm: v.Get("farm")}
	if len(q.User) > maxUser {
		return q, errors.New("user is too long")
	}
	if from := v.Get("from"); from != "" {
		ip, err := netip.ParseAddr(from)
		if err != nil || ip.Zone() != "" {
			return q, errors.New("from is not an address such as 10.1.2.3")
		}
		q.From = ip.Unmap()
	}
	return q, nil
}

func answerOr(w http.ResponseWriter, v any, err error) {
	var missing *NotFoundError
	switch {
	case errors.As(err, &missing):
		problem(w, http.StatusNotFound, err.Error())
	case err != nil:
		problem(w, http.StatusInternalServerError, err.Error())
	default:
		answer(w, v)
	}
}

func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		problem(w, http.StatusInternalServerError, "the answer cannot be written: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}

const problemType = "application/problem+json"

// problemBody is an error as RFC 9457 has it, of the type about:blank.
type problemBody struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func problem(w http.ResponseWriter, status int, detail string) {
	b, err := json.Marshal(problemBody{Title: http.StatusText(status), Status: status, Detail: strings.ToValidUTF8(detail, "?")})
	if err != nil { // of two texts and a number: cannot be
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
