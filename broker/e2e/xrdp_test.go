package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// The sentence that this product is about, as sesman writes it.
func refusedByHost(h *testlab.XRDPHost, user string) bool {
	log := h.SesmanLog()
	return strings.Contains(log, "max concurrent session limit exceeded. login for user "+user+" denied") ||
		strings.Contains(log, "Max session limit reached")
}

func TestTheThirdUserGetsADesktop(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1, 30*time.Second)
	h := o.hosts[0]
	stalest := o.disconnected(h, "rbalice")
	other := o.disconnected(h, "rbbob")

	// Without the broker the same user is refused by the same host.
	direct, _ := o.connect(h.Addr, "rbcarol")
	o.waitFor("the host itself refuses the third user", func() bool { return refusedByHost(h, "rbcarol") })
	direct.Kill()

	client, screen := o.connect(o.addr, "rbcarol")
	o.shows(screen, client, o.desktop(h, "rbcarol"))
	if h.Runs(stalest) {
		t.Error("the stalest session is still there")
	}
	if !h.Runs(other) {
		t.Error("the other session is gone")
	}
	evicted := o.events(audit.Evicted)
	if len(evicted) != 1 || evicted[0].Decision.Victim.Session.Account.User != "rbalice" {
		t.Errorf("evicted: %+v", evicted)
	}
	// The reservation ends in the session that it was made for.
	o.waitFor("the session is confirmed", func() bool { return len(o.events(audit.Confirmed)) == 1 })
}

func TestAUserComesBackToTheirOwnSession(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 2, 30*time.Second)
	// By name and by load the first host would be next; the user's session is on the other.
	desk := o.disconnected(o.hosts[1], "rbaccountant1")

	client, screen := o.connect(o.addr, "rbaccountant1")
	o.shows(screen, client, desk)
	o.inState(o.hosts[1], "rbaccountant1", sessions.StateActive)
	now, err := o.hosts[1].WaitDesktop(o.ctx, "rbaccountant1")
	if err != nil || now != desk {
		t.Errorf("came back to %+v (%v), had %+v", now, err, desk)
	}
	if ds, err := o.hosts[0].Desktops("rbaccountant1"); err != nil || len(ds) != 0 {
		t.Errorf("a second session on the first host: %+v, %v", ds, err)
	}
	for _, r := range o.events(audit.Decided) {
		if r.Decision.Kind != placement.Reconnect {
			t.Errorf("decided %s: %s", r.Decision.Kind, r.Decision.Reason)
		}
	}
}

func TestTwoUsersArriveTogether(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1, 30*time.Second)
	h := o.hosts[0]
	o.disconnected(h, "rbalice")
	o.disconnected(h, "rbbob")

	one, screenOne := o.connect(o.addr, "rbcarol")
	two, screenTwo := o.connect(o.addr, "rbdave")
	o.shows(screenOne, one, o.desktop(h, "rbcarol"))
	o.shows(screenTwo, two, o.desktop(h, "rbdave"))

	victims := map[string]int{}
	for _, r := range o.events(audit.Evicted) {
		victims[r.Decision.Victim.Session.Account.User]++
	}
	if len(victims) != 2 || victims["rbalice"] != 1 || victims["rbbob"] != 1 {
		t.Errorf("victims: %v", victims)
	}
	if refusedByHost(h, "rbcarol") || refusedByHost(h, "rbdave") {
		t.Error("the host had to refuse somebody")
	}
}

func TestEverybodyIsActive(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1, 60*time.Second)
	h := o.hosts[0]
	alice, _ := o.connect(o.addr, "rbalice")
	aliceDesk := o.desktop(h, "rbalice")
	o.connect(o.addr, "rbbob")
	bobDesk := o.desktop(h, "rbbob")

	carol, screen := o.connect(o.addr, "rbcarol")
	o.waitFor("the third user waits", func() bool { return len(o.d.Status().Waiting) == 1 })
	if !carol.Running() {
		t.Fatalf("the client did not wait: %s", carol.Output())
	}
	if !h.Runs(aliceDesk) || !h.Runs(bobDesk) {
		t.Error("somebody who was active is gone")
	}
	alice.Disconnect() // closes the window; the session is now one that may go
	o.shows(screen, carol, o.desktop(h, "rbcarol"))
	if !h.Runs(bobDesk) {
		t.Error("the one who stayed active is gone")
	}
	if refusedByHost(h, "rbcarol") {
		t.Error("the host had to refuse the one who waited")
	}
}

func TestWhoWaitsInVainIsToldWhyInTheAudit(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1, 2*time.Second)
	h := o.hosts[0]
	o.connect(o.addr, "rbalice")
	o.desktop(h, "rbalice")
	o.connect(o.addr, "rbbob")
	o.desktop(h, "rbbob")

	carol, _ := o.connect(o.addr, "rbcarol")
	if err := carol.Wait(o.ctx); o.ctx.Err() != nil {
		t.Fatalf("the client is still there: %v", err)
	}
	refused := o.events(audit.Refused)
	if len(refused) == 0 {
		t.Fatal("no refusal was recorded")
	}
	last := refused[0].Decision
	if !strings.Contains(last.Reason, "no slot is free") || len(last.Candidates) == 0 {
		t.Errorf("the refusal says %q with %d candidates", last.Reason, len(last.Candidates))
	}
	if len(o.events(audit.Evicting)) != 0 {
		t.Error("somebody active was to be logged off")
	}
}
