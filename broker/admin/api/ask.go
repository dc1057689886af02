package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/live"
	"github.com/rdpbroker/rdpbroker/broker/audit"
)

// snapshot is the status, if there is a picture of the farm yet.
func (a *api) snapshot(w http.ResponseWriter) (admin.Status, bool) {
	status := a.State.Status()
	if status.Snapshot == nil {
		admin.WriteProblem(w, http.StatusServiceUnavailable, "no host has been read yet")
		return status, false
	}
	return status, true
}

func (a *api) status(w http.ResponseWriter, _ *http.Request) {
	status := a.State.Status()
	out := status.Overview()
	if err := a.State.Ready(); err != nil {
		out.NotReady = err.Error()
	}
	answer(w, out)
}

func (a *api) hosts(w http.ResponseWriter, _ *http.Request) {
	if status, ok := a.snapshot(w); ok {
		answer(w, status.HostList())
	}
}

func (a *api) sessions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	status, ok := a.snapshot(w)
	if !ok {
		return
	}
	out, err := status.SessionList(admin.Filter{Host: q.Get("host"), User: q.Get("user")})
	answerOr(w, out, err)
}

func (a *api) connections(w http.ResponseWriter, r *http.Request) {
	status := a.State.Status()
	answer(w, status.ConnectionList(r.URL.Query().Get("host")))
}

func (a *api) waiting(w http.ResponseWriter, _ *http.Request) {
	status := a.State.Status()
	answer(w, status.WaitingList())
}

// How many records are told without a limit, and at most.
const (
	usualRecords = 100
	mostRecords  = 1000
)

func (a *api) decisions(w http.ResponseWriter, r *http.Request) {
	limit := usualRecords
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > mostRecords {
			admin.WriteProblem(w, http.StatusBadRequest, "limit is not a number from 1 to "+strconv.Itoa(mostRecords))
			return
		}
		limit = n
	}
	last := a.Events.Last() // before the records: one that comes meanwhile is told twice, not never
	answer(w, admin.Decisions{Now: time.Now(), Last: last, Records: append([]audit.Record{}, a.Recent(limit)...)})
}

func (a *api) events(w http.ResponseWriter, r *http.Request) {
	from := a.Events.Last()
	if s := r.URL.Query().Get("after"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			admin.WriteProblem(w, http.StatusBadRequest, "after is not the number of an event")
			return
		}
		from = n
	}
	if err := live.Serve(w, r, a.Events, from); err != nil {
		w.Header().Set("Retry-After", "10")
		admin.WriteProblem(w, http.StatusServiceUnavailable, err.Error())
	}
}

// EventOf is what a reader of the events gets of a record.
func EventOf(r audit.Record) func() []byte {
	return func() []byte {
		b, err := json.Marshal(r)
		if err != nil { // no record is like that
			return []byte("{}")
		}
		return b
	}
}

func (a *api) me(w http.ResponseWriter, r *http.Request) {
	p := auth.PersonOf(r.Context())
	answer(w, admin.Me{Name: p.Name, Role: p.Role.String(), Via: p.Via})
}

func (a *api) explain(w http.ResponseWriter, r *http.Request) {
	q, err := question(r)
	if err != nil {
		admin.WriteProblem(w, http.StatusBadRequest, err.Error())
		return
	}
	out, err := a.State.Explain(q)
	answerOr(w, out, err)
}

// maxUser bounds what a question may say; a cookie is shorter.
const maxUser = 256

// maxChanges and maxChange bound the changes that a question may suppose, and one
// of them.
const maxChanges, maxChange = 32, 1024

func question(r *http.Request) (admin.Question, error) {
	v := r.URL.Query()
	q := admin.Question{User: v.Get("user"), Farm: v.Get("farm")}
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
	if at := v.Get("at"); at != "" {
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return q, errors.New("at is not a time such as 2026-03-02T09:00:00Z")
		}
		q.At = t
	}
	if q.WhatIf = v["what_if"]; len(q.WhatIf) > maxChanges {
		return q, fmt.Errorf("what_if is given more than %d times", maxChanges)
	}
	for _, change := range q.WhatIf {
		if len(change) > maxChange {
			return q, errors.New("what_if is too long")
		}
	}
	return q, nil
}
