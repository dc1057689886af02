package client

import (
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// TestLeft: a host is empty when it can be read and nobody is there nor on the way.
func TestLeft(t *testing.T) {
	host := func(state string, reserved int) admin.Hosts {
		return admin.Hosts{Hosts: []admin.Host{{Name: "ts2", State: admin.HostUp}, {Name: "ts1", State: state, Reserved: reserved}}}
	}
	three := admin.Sessions{Sessions: []admin.Session{
		{State: sessions.StateActive}, {State: sessions.StateDisconnected, DisconnectedFor: 40 * time.Minute}, {State: sessions.StateDisconnected, DisconnectedFor: time.Minute},
	}}
	for _, c := range []struct {
		name  string
		hosts admin.Hosts
		list  admin.Sessions
		empty bool
		text  string
	}{
		{"three", host(admin.HostUp, 0), three, false, "3 left: 1 active, 2 disconnected, the oldest for 40m"},
		{"nobody", host(admin.HostUp, 0), admin.Sessions{}, true, ""},
		{"somebody who comes", host(admin.HostUp, 1), admin.Sessions{}, false, "1 left: 1 on the way"},
		{"nobody as far as is known", host(admin.HostStale, 0), admin.Sessions{}, false, "0 left: as far as is known: the host cannot be read now"},
		{"a host that is gone", admin.Hosts{}, admin.Sessions{}, false, "0 left: as far as is known: the host cannot be read now"},
	} {
		l := LeftOn("ts1", c.hosts, c.list)
		if l.Empty() != c.empty || !c.empty && l.String() != c.text {
			t.Errorf("%s: empty %v, %q", c.name, l.Empty(), l)
		}
	}
}

func TestBytesAndConnections(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 KB", 1_234_567: "1.2 MB", 5_000_000_000_000: "5.0 TB", 5_000_000_000_000_000: "5000.0 TB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	var out strings.Builder
	a, b := int64(2000), int64(3)
	list := admin.Connections{Connections: []admin.Connection{{ID: 1, Client: "10.1.2.3:5", Said: "ali\x1b", Host: "ts1", ToHost: &a, ToClient: &b}}}
	if err := WriteConnections(&out, list); err != nil {
		t.Fatal(err)
	}
	checkPrintable(t, out.String())
	for _, want := range []string{`"ali\x1b"`, "2.0 KB to the host, 3 B back"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}
