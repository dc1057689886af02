package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestHostsAreCounted(t *testing.T) {
	st := admintest.FarmStatus()
	want := []admin.Host{
		{Name: "lx1", Farm: "linux", Addr: "lx1:3389", State: "down", Problem: "connection refused", CountsDisconnected: true, Assumed: true},
		{Name: "lx2", Farm: "linux", Addr: "lx2:3389", State: "unread", CountsDisconnected: true, Assumed: true},
		// One reservation needs a slot; the other one's session has appeared.
		{Name: "lx3", Farm: "linux", Addr: "lx3:3389", State: "up", Limit: 10, Used: 1, Reserved: 1, Free: 9, CountsDisconnected: true, ReadAt: admintest.Now, Source: "xrdp"},
		{
			Name: "ts1", Farm: "office", Addr: "ts1:3389", State: "up", Limit: 2, Used: 2, Active: 1, Disconnected: 1, CountsDisconnected: true, Assumed: true,
			ReadAt: admintest.Now.Add(-10 * time.Second), Source: "quser", NoEvict: "its text tells no exact times", LimitSource: "broker.yaml",
		},
		{
			Name: "ts2", Farm: "office", Addr: "ts2:3389", State: "stale", Problem: "no route\nto host", Draining: true, Used: 1, Disconnected: 1,
			ReadAt: admintest.Now.Add(-192 * time.Minute), Source: "quser", CountsSource: "broker.yaml",
		},
	}
	if d := cmp.Diff(want, st.HostList().Hosts); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestSlotsAreCountedAsDecisionsCountThem: what operators see as used is what
// placement goes by, also while room is made.
func TestSlotsAreCountedAsDecisionsCountThem(t *testing.T) {
	st := admintest.FarmStatus()
	victim := sessions.RefOf("ts1", st.Snapshot.Host("ts1").Report.Sessions[2])
	st.Reservations = []admin.Reservation{{ID: 1, Host: "ts1", Kind: placement.MakeRoom, Victim: &victim}}
	for _, h := range st.HostList().Hosts {
		if h.Name == "ts1" && (h.Used != 2 || h.Reserved != 0) {
			t.Errorf("while the victim is there: %+v", h)
		}
	}
	gone := sessions.Ref{Host: "ts1", ID: 99}
	st.Reservations[0].Victim = &gone
	for _, h := range st.HostList().Hosts {
		if h.Name == "ts1" && (h.Used != 3 || h.Reserved != 1) {
			t.Errorf("when the victim is gone: %+v", h)
		}
	}
}

func TestSessionsAreChosen(t *testing.T) {
	st := admintest.FarmStatus()
	for _, c := range []struct {
		f    admin.Filter
		want string
	}{
		{admin.Filter{}, "ts1/3 ts1/4 ts2/1 ts2/2"},
		{admin.Filter{Host: "ts1"}, "ts1/3 ts1/4"},
		{admin.Filter{Host: "lx1"}, ""},
		{admin.Filter{User: "ALICE"}, "ts1/3"},
		{admin.Filter{User: `contoso\*`}, "ts1/3 ts1/4"},
		{admin.Filter{Host: "ts1", User: "dave"}, ""},
	} {
		out, err := st.SessionList(c.f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range out.Sessions {
			got = append(got, fmt.Sprintf("%s/%d", s.Host, s.ID))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v chooses %s, want %s", c.f, got, c.want)
		}
	}
}

func TestSessionsAreInTheBrokersTime(t *testing.T) {
	st := admintest.FarmStatus()
	out, err := st.SessionList(admin.Filter{Host: "ts1"})
	if err != nil {
		t.Fatal(err)
	}
	want := []admin.Session{
		{Host: "ts1", Farm: "office", ID: 3, Account: admintest.Alice, State: sessions.StateActive, LoggedOnFor: 5*time.Minute + 10*time.Second, ClientName: "PC7", ClientAddr: admintest.Client7, HoldsSlot: true, Key: out.Sessions[0].Key},
		{Host: "ts1", Farm: "office", ID: 4, Account: admintest.Bob, State: sessions.StateDisconnected, LoggedOnFor: 26*time.Hour + 10*time.Second, DisconnectedFor: 192*time.Minute + 10*time.Second, HoldsSlot: true, Leaving: true, Key: out.Sessions[1].Key},
	}
	if d := cmp.Diff(want, out.Sessions, cmpopts.EquateComparable(admintest.Client7)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
