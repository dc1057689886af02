package simhost

import (
	"image"
	"image/color"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/rdpserver"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func types(t *testing.T) *typeface {
	t.Helper()
	f, err := newTypeface()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func busyScene() scene {
	now := newClock().now
	s := scene{
		host: "rds-02.a-long-name.contoso.example", accent: accents[0], now: now, since: now, kind: AttachedNew, used: 40, slots: 99,
		session: sessions.Session{ID: 31, Account: sessions.Account{Domain: "CONTOSO", User: "a-very-long-user-name-that-has-no-end"}, ClientName: "ANOTHER-LONG-NAME"},
		room:    &Room{Account: user("bob"), ID: 3, DisconnectedFor: 49 * time.Hour, At: now},
	}
	for id := range 40 {
		s.sessions = append(s.sessions, sessions.Session{ID: id + 1, Account: user("somebody"), State: sessions.State(id % 11), DisconnectedAt: now})
	}
	return s
}

func TestDesktopsOfAllSizes(t *testing.T) {
	for _, size := range []image.Point{{200, 200}, {640, 480}, {1366, 768}, {600, 1200}, {1600, 300}} {
		p := newPainter(types(t), size.X, size.Y)
		img, button := p.desktop(busyScene())
		if img.Bounds().Size() != size {
			t.Errorf("%v: the picture has %v", size, img.Bounds())
		}
		if button.Empty() || !button.In(img.Bounds()) {
			t.Errorf("%v: the button is at %v", size, button)
		}
		if again, _ := p.desktop(busyScene()); len(changes(img, again)) != 0 {
			t.Errorf("%v: the same scene has two pictures", size)
		}
		p.notice(notice{host: "x", title: "Logon Message", text: TextFull2008, left: time.Second})
	}
}

func TestOnlyWhatChangedIsDrawn(t *testing.T) {
	p := newPainter(types(t), 1024, 768)
	s := busyScene()
	before, _ := p.desktop(s)
	s.now = s.now.Add(time.Second)
	now, _ := p.desktop(s)
	area := 0
	for _, r := range changes(before, now) {
		area += r.Dx() * r.Dy()
		for y := r.Min.Y; y < r.Max.Y; y++ {
			copy(before.Pix[before.PixOffset(r.Min.X, y):before.PixOffset(r.Max.X, y)], now.Pix[now.PixOffset(r.Min.X, y):now.PixOffset(r.Max.X, y)])
		}
	}
	if left := changes(before, now); len(left) != 0 {
		t.Errorf("after drawing the changes, %v still differ", left)
	}
	if area == 0 || area > 1024*768/4 {
		t.Errorf("a second changed %d of %d pixels", area, 1024*768)
	}
	if all := changes(nil, now); len(all) != 1 || all[0] != now.Bounds() {
		t.Errorf("the first picture is drawn as %v", all)
	}
}

func TestWantsLogoff(t *testing.T) {
	button := image.Rect(10, 10, 50, 30)
	click := uint16(rdpserver.PointerDown | rdpserver.PointerLeftButton)
	for _, c := range []struct {
		e    rdpserver.Event
		want bool
	}{
		{rdpserver.Key{Scancode: 0x26, Down: true}, true},
		{rdpserver.Key{Scancode: 0x26}, false},
		{rdpserver.Key{Scancode: 0x26, Down: true, Extended: true}, false},
		{rdpserver.Key{Scancode: 0x27, Down: true}, false},
		{rdpserver.Char{Unit: 'l', Down: true}, true},
		{rdpserver.Char{Unit: 'k', Down: true}, false},
		{rdpserver.Mouse{Flags: click, X: 10, Y: 29}, true},
		{rdpserver.Mouse{Flags: click, X: 50, Y: 29}, false},
		{rdpserver.Mouse{Flags: rdpserver.PointerLeftButton, X: 20, Y: 20}, false},
		{rdpserver.Mouse{Flags: rdpserver.PointerMove, X: 20, Y: 20}, false},
		{rdpserver.Mouse{Flags: click, X: 20, Y: 20, Extra: true}, false},
	} {
		if got := wantsLogoff(c.e, button); got != c.want {
			t.Errorf("%+v: %v", c.e, got)
		}
	}
}

func TestSpell(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "just now", 900 * time.Millisecond: "just now", 59 * time.Second: "59 s ago", time.Minute: "1 min ago",
		90 * time.Minute: "1 h 30 min ago", 47 * time.Hour: "47 h 00 min ago", 49 * time.Hour: "2 days ago", -time.Hour: "just now",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestHostsOfOneFarmDifferInColour(t *testing.T) {
	seen := map[color.RGBA]string{}
	for _, name := range []string{"ts1", "ts2", "ts3", "ts4"} {
		if other, taken := seen[accentOf(name)]; taken {
			t.Errorf("%s has the colour of %s", name, other)
		}
		seen[accentOf(name)] = name
	}
}
