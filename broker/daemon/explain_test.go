package daemon_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/placement"
)

// TestExplainAnotherTimeAndPolicy, by way of the socket: what is said is what the
// broker would do, and a change that makes no sense is told as check tells it.
func TestExplainAnotherTimeAndPolicy(t *testing.T) {
	t.Parallel()
	o := newOffice(t, startWindows(t, "ts1", full(1), away("bob", 3*time.Minute)))
	o.top += "identity: {users: ['CONTOSO\\alice']}\n"
	s := o.open(t)
	ask := func(q admin.Question) admin.Explanation {
		t.Helper()
		q.User = "alice"
		e, err := s.ask().Explain(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := ask(admin.Question{}); e.Decision.Victim != nil || e.Decision.Class == placement.ClassVictim {
		t.Errorf("now: %+v", e.Decision)
	}
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	if e := ask(admin.Question{At: later}); e.Decision.Victim == nil || e.Decision.Victim.DisconnectedFor < time.Hour || !e.At.Equal(later) {
		t.Errorf("in an hour: %+v", e.Decision)
	}
	if e := ask(admin.Question{WhatIf: []string{"eviction.min_disconnected=1m", "eviction.mode=shadow"}}); e.Decision.Would == nil || e.Mode != "shadow" || len(e.WhatIf) != 2 {
		t.Errorf("by another policy: %+v", e)
	}
	if e := ask(admin.Question{At: later, WhatIf: []string{"eviction.headroom=1"}}); e.Headroom == nil || e.Headroom.Victim == nil || e.Headroom.Kind != placement.KeepFree {
		t.Errorf("with headroom: %+v", e.Headroom)
	}
	_, err := s.ask().Explain(t.Context(), admin.Question{User: "alice", WhatIf: []string{"eviction.min_disconected=1m"}})
	var answer *client.AnswerError
	if !errors.As(err, &answer) || answer.Status != 400 || !strings.Contains(answer.Detail, "what-if: eviction.min_disconected: is not a known key; did you mean min_disconnected?") {
		t.Errorf("a change that makes no sense: %v", err)
	}
}
