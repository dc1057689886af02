package simhost

import (
	"image/png"
	"os"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestLook(t *testing.T) {
	dir := os.Getenv("SIMHOST_LOOK")
	if dir == "" {
		t.Skip()
	}
	types, err := newTypeface()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 2, 14, 3, 9, 0, time.UTC)
	s := scene{host: "rds-02", accent: accentOf("rds-02"), now: now, session: sessions.Session{ID: 3, Account: user("alice"), State: sessions.StateActive, LogonAt: now.Add(-3 * time.Hour), ClientName: "PC-ALICE", ClientAddr: somewhere},
		kind: AttachedNew, since: now.Add(-4 * time.Second), room: &Room{Account: user("bob"), ID: 3, DisconnectedFor: 49 * time.Hour, At: now.Add(-5 * time.Second)}, used: 3, slots: 4,
		sessions: []sessions.Session{{ID: 1, Name: "console", State: sessions.StateConnected}, {ID: 2, Account: user("carol"), State: sessions.StateDisconnected, DisconnectedAt: now.Add(-72 * time.Minute)}, {ID: 3, Account: user("alice"), State: sessions.StateActive, LogonAt: now.Add(-3 * time.Second)}, {ID: 4, Account: user("dave"), State: sessions.StateDown, LogonAt: now.Add(-50 * time.Hour)}}}
	for _, size := range [][2]int{{640, 480}, {1024, 768}, {1920, 1080}, {800, 600}} {
		p := newPainter(types, size[0], size[1])
		start := time.Now()
		img, _ := p.desktop(s)
		t.Log(size, time.Since(start))
		f, _ := os.Create(dir + "/d" + time.Duration(size[0]).String() + ".png")
		png.Encode(f, img)
		f.Close()
	}
	p := newPainter(types, 1024, 768)
	f, _ := os.Create(dir + "/n.png")
	png.Encode(f, p.notice(notice{host: "rds-02", accent: s.accent, title: "Logon Message", text: TextFull2003, left: 7 * time.Second}))
	f.Close()
}
