package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// The bounds of what an action may ask for.
const (
	maxTitle = 100  // bytes
	maxText  = 2000 // bytes
	maxKeep  = 30 * 24 * time.Hour
	// quickLimit bounds an action that tells hosts or reads files; logoffLimit one
	// that waits until a session is gone, which takes up to eviction.hard_limit.
	quickLimit  = 25 * time.Second
	logoffLimit = 2*time.Hour + time.Minute
)

// request reads the body of an action into v: one JSON object with no other keys.
// An empty body is an empty object.
func request(w http.ResponseWriter, r *http.Request, v any) bool {
	refuse := func(what string) bool {
		admin.WriteProblem(w, http.StatusBadRequest, what)
		return false
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return true
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		admin.WriteProblem(w, http.StatusRequestEntityTooLarge, "the request is too long")
		return false
	}
	if kind, _, typeErr := mime.ParseMediaType(r.Header.Get("Content-Type")); typeErr != nil || kind != "application/json" {
		admin.WriteProblem(w, http.StatusUnsupportedMediaType, "the request must be of type application/json")
		return false
	}
	if err != nil {
		return refuse("the request cannot be read: " + err.Error())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return refuse("the request goes on after its end")
	}
	return true
}

// sessionOf is the session that the address names, as it was last read.
func (a *api) sessionOf(w http.ResponseWriter, r *http.Request, key string) (sessions.Ref, sessions.Session, bool) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		admin.WriteProblem(w, http.StatusBadRequest, "a session is named HOST/ID, and ID is a number")
		return sessions.Ref{}, sessions.Session{}, false
	}
	status := a.State.Status()
	ref, s, err := status.Find(r.PathValue("host"), id, key)
	if err != nil {
		admin.WriteError(w, err)
		return ref, s, false
	}
	return ref, s, true
}

// within is the context of an action that may take as long as limit, and goes on
// when whoever asked for it is gone.
func within(w http.ResponseWriter, r *http.Request, limit time.Duration) (context.Context, context.CancelFunc) {
	rc := http.NewResponseController(w)
	// Where that cannot be set, the answer may come too late; the action does not.
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(limit + quickLimit))
	return context.WithTimeout(context.WithoutCancel(r.Context()), limit)
}

func by(r *http.Request) string { return auth.PersonOf(r.Context()).By() }

// messageRequest is the body of a message.
type messageRequest struct {
	Title string `json:"title"`
	Text  string `json:"text"`
	Key   string `json:"key"`
}

func (m *messageRequest) read(w http.ResponseWriter, r *http.Request) bool {
	if !request(w, r, m) {
		return false
	}
	switch {
	case m.Text == "":
		admin.WriteProblem(w, http.StatusBadRequest, "text is missing")
	case len(m.Text) > maxText || len(m.Title) > maxTitle:
		admin.WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("a title has up to %d bytes, a text up to %d", maxTitle, maxText))
	default:
		if m.Title == "" {
			m.Title = "Message from the administrator"
		}
		return true
	}
	return false
}

func (a *api) message(w http.ResponseWriter, r *http.Request) {
	var m messageRequest
	if !m.read(w, r) {
		return
	}
	ref, s, ok := a.sessionOf(w, r, m.Key)
	if !ok {
		return
	}
	if a.Actions.Message == nil {
		admin.WriteError(w, errCannot)
		return
	}
	ctx, cancel := within(w, r, quickLimit)
	defer cancel()
	err := a.Actions.Message(ctx, by(r), ref, m.Title, m.Text)
	answerOr(w, admin.Done{Done: fmt.Sprintf("The message was shown to %s in session %s.", s.Account, ref)}, err)
}

func (a *api) messageAll(w http.ResponseWriter, r *http.Request) {
	var m messageRequest
	if !m.read(w, r) {
		return
	}
	status, ok := a.snapshot(w)
	if !ok {
		return
	}
	host := status.Snapshot.Host(r.PathValue("host"))
	switch {
	case host == nil:
		admin.WriteError(w, &admin.NotFoundError{What: "a host of the name " + r.PathValue("host")})
		return
	case a.Actions.Message == nil:
		admin.WriteError(w, errCannot)
		return
	case host.Report == nil:
		admin.WriteError(w, &admin.ConflictError{Why: host.Host.Name + " has not been read yet: nobody knows who is there"})
		return
	}
	ctx, cancel := within(w, r, quickLimit)
	defer cancel()
	var out admin.Done
	told := 0
	for _, s := range host.Report.Sessions {
		if !s.HasUser() || s.State != sessions.StateActive {
			continue
		}
		if err := a.Actions.Message(ctx, by(r), sessions.RefOf(host.Host.Name, s), m.Title, m.Text); err != nil {
			out.Failed = append(out.Failed, fmt.Sprintf("%s in session %d: %s", s.Account, s.ID, admin.Clean(err.Error(), 300)))
			continue
		}
		told++
	}
	out.Done = fmt.Sprintf("The message was shown in %d sessions on %s.", told, host.Host.Name)
	answer(w, out)
}

// keyRequest is the body of an action on a session.
type keyRequest struct {
	Key string `json:"key"`
}

func (a *api) logoff(w http.ResponseWriter, r *http.Request) {
	var q keyRequest
	if !request(w, r, &q) {
		return
	}
	if q.Key == "" {
		admin.WriteProblem(w, http.StatusBadRequest, "key is missing: that of the session as /api/v1/sessions tells it, so that nobody else is logged off who has its ID by now")
		return
	}
	ref, s, ok := a.sessionOf(w, r, q.Key)
	if !ok {
		return
	}
	if s.State != sessions.StateDisconnected {
		admin.WriteError(w, &admin.ConflictError{Why: fmt.Sprintf("session %s of %s is %s: only a disconnected session is logged off", ref, s.Account, s.State)})
		return
	}
	if a.Actions.Logoff == nil {
		admin.WriteError(w, errCannot)
		return
	}
	ctx, cancel := within(w, r, logoffLimit)
	defer cancel()
	err := a.Actions.Logoff(ctx, by(r), ref)
	answerOr(w, admin.Done{Done: fmt.Sprintf("%s was logged off; session %s is gone.", s.Account, ref)}, err)
}

// keepRequest is the body of a keep.
type keepRequest struct {
	Key string `json:"key"`
	// For is how long, such as 8h or 2h30m.
	For string `json:"for"`
}

func (a *api) keep(w http.ResponseWriter, r *http.Request) {
	var q keepRequest
	if !request(w, r, &q) {
		return
	}
	d, err := time.ParseDuration(q.For)
	if err != nil || d <= 0 || d > maxKeep {
		admin.WriteProblem(w, http.StatusBadRequest, "for is not a time such as 8h or 90m, 720h at most")
		return
	}
	ref, s, ok := a.sessionOf(w, r, q.Key)
	if !ok {
		return
	}
	if a.Actions.Keep == nil {
		admin.WriteError(w, errCannot)
		return
	}
	ctx, cancel := within(w, r, quickLimit)
	defer cancel()
	until := time.Now().Add(d).Round(time.Second)
	err = a.Actions.Keep(ctx, by(r), ref, until)
	answerOr(w, admin.Done{Done: fmt.Sprintf("Session %s of %s is kept until %s.", ref, s.Account, until.UTC().Format("2006-01-02 15:04 MST"))}, err)
}

func (a *api) unkeep(w http.ResponseWriter, r *http.Request) {
	var q keyRequest
	if !request(w, r, &q) {
		return
	}
	ref, s, ok := a.sessionOf(w, r, q.Key)
	if !ok {
		return
	}
	if a.Actions.Unkeep == nil {
		admin.WriteError(w, errCannot)
		return
	}
	ctx, cancel := within(w, r, quickLimit)
	defer cancel()
	err := a.Actions.Unkeep(ctx, by(r), ref)
	answerOr(w, admin.Done{Done: fmt.Sprintf("Session %s of %s is no longer kept.", ref, s.Account)}, err)
}

func (a *api) drain(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !request(w, r, &struct{}{}) {
			return
		}
		if a.Actions.Drain == nil {
			admin.WriteError(w, errCannot)
			return
		}
		host := r.PathValue("host")
		ctx, cancel := within(w, r, quickLimit)
		defer cancel()
		err := a.Actions.Drain(ctx, by(r), host, on)
		done := admin.Done{Done: host + " takes new sessions again."}
		if on {
			done.Done = host + " takes no new sessions; those who have one there still get back to it."
		}
		answerOr(w, done, err)
	}
}

// evictionRequest is the body of a change of the eviction mode.
type evictionRequest struct {
	Mode string `json:"mode"`
}

// evictionModes are the words for the modes, and what each does.
var evictionModes = map[string]struct{ mode, done string }{
	"off":    {"off", "Nobody is logged off, in no farm, until you say otherwise or the broker restarts."},
	"shadow": {"shadow", "Who would be logged off is decided and recorded, and nobody is, until you say otherwise or the broker restarts."},
	"on":     {"evict", "Disconnected sessions are logged off where somebody needs their slot, in every farm, until you say otherwise or the broker restarts."},
	"config": {"", "The configuration says again who is logged off."},
}

func (a *api) eviction(w http.ResponseWriter, r *http.Request) {
	var q evictionRequest
	if !request(w, r, &q) {
		return
	}
	m, ok := evictionModes[q.Mode]
	if !ok {
		admin.WriteProblem(w, http.StatusBadRequest, "mode is off, shadow, on or config")
		return
	}
	if a.Actions.SetEviction == nil {
		admin.WriteError(w, errCannot)
		return
	}
	ctx, cancel := within(w, r, quickLimit)
	defer cancel()
	answerOr(w, admin.Done{Done: m.done}, a.Actions.SetEviction(ctx, by(r), m.mode))
}

// reloadRequest is the body of a reload.
type reloadRequest struct {
	DryRun bool `json:"dry_run"`
}

func (a *api) reload(w http.ResponseWriter, r *http.Request) {
	var q reloadRequest
	if !request(w, r, &q) {
		return
	}
	if a.Actions.Reload == nil {
		admin.WriteError(w, errCannot)
		return
	}
	ctx, cancel := within(w, r, quickLimit)
	defer cancel()
	changes, err := a.Actions.Reload(ctx, by(r), q.DryRun)
	if changes.Changes == nil {
		changes.Changes = []admin.Change{}
	}
	answerOr(w, changes, err)
}

func (a *api) link(w http.ResponseWriter, r *http.Request) {
	if !request(w, r, &struct{}{}) {
		return
	}
	if a.Link == nil {
		admin.WriteError(w, &admin.NotFoundError{What: "a page: admin.listen is not set, so it"})
		return
	}
	answer(w, admin.Link{URL: a.Link(auth.PersonOf(r.Context()))})
}
