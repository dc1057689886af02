package simhost

import (
	"context"
	"image"
	"image/color"
	"image/draw"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// runningHost is a host that serves on loopback until the test ends.
type runningHost struct {
	*Host
	rdp, winrm string // addresses
}

func start(t *testing.T, cfg Config) *runningHost {
	t.Helper()
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	rdp, winrm := listen(), listen()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, rdp, winrm) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &runningHost{Host: h, rdp: rdp.Addr().String(), winrm: winrm.Addr().String()}
}

// wait waits until the user's session is in that state; StateUnknown: until
// there is none.
func (h *runningHost) wait(t *testing.T, name string, state sessions.State) sessions.Session {
	t.Helper()
	var last []sessions.Session
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		last = h.Model().Sessions()
		found := sessions.Session{}
		for _, s := range last {
			if strings.EqualFold(s.Account.User, name) {
				found = s
			}
		}
		if found.State == state {
			return found
		}
	}
	t.Fatalf("no session of %s becomes %v: %+v", name, state, last)
	return sessions.Session{}
}

func deadlined(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// press makes input happen on the display.
func press(t *testing.T, d *testlab.Display, args ...string) {
	t.Helper()
	cmd := exec.Command("xdotool", args...)
	cmd.Env = []string{d.Env()}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("xdotool %q: %v: %s", args, err, out)
	}
}

func see(t *testing.T, d *testlab.Display, words ...string) {
	t.Helper()
	if _, err := d.WaitText(deadlined(t), words...); err != nil {
		t.Error(err)
	}
}

func freerdp(t *testing.T, d *testlab.Display, h *runningHost, name string, more ...string) *testlab.Client {
	return testlab.XFreeRDP(t, d, testlab.ClientOptions{Addr: h.rdp, User: name, Size: "1024x768", Extra: more})
}

// shows waits until the display shows exactly this picture in its upper left corner.
func shows(t *testing.T, d *testlab.Display, want *image.RGBA) {
	t.Helper()
	var difference []image.Rectangle
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		img, err := d.Image(deadlined(t))
		if err != nil {
			t.Fatal(err)
		}
		got := image.NewRGBA(want.Bounds())
		draw.Draw(got, got.Bounds(), img, img.Bounds().Min, draw.Src)
		if difference = changes(want, got); len(difference) == 0 {
			return
		}
	}
	t.Errorf("display %s differs from the picture in %v", d.Name(), difference)
}

// desktopOf is the picture of name's desktop, on a host whose clock stands still.
func (h *runningHost) desktopOf(name string, kind AttachmentKind) *image.RGBA {
	for _, s := range h.Model().Sessions() {
		if strings.EqualFold(s.Account.User, name) {
			img, _ := newPainter(h.types, 1024, 768).desktop(h.scene(&Attachment{Kind: kind, Session: s}, h.Model().HostTime()))
			return img
		}
	}
	return nil
}

func TestADesktopIsSeenAndStaysWhenItsClientGoes(t *testing.T) {
	testlab.Require(t, "xfreerdp|xfreerdp3")
	t.Parallel()
	accent := color.RGBA{0x4c, 0xb5, 0xae, 0xff}
	h := start(t, Config{
		Name: "hamburg", Domain: "CONTOSO", Clock: newClock().Now,
		Options: Options{Slots: 3, CountDisconnected: true}, RDP: RDP{Accent: accent, Refresh: time.Hour},
	})
	if err := h.Model().Seed(Seed{Account: user("carol"), ID: 8, DisconnectedAgo: 3 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	d := testlab.StartDisplay(t)
	client := freerdp(t, d, h, "alice")
	s := h.wait(t, "alice", sessions.StateActive)
	if s.Account != user("alice") || s.ClientName == "" || !s.ClientAddr.IsLoopback() {
		t.Errorf("the session is %+v", s)
	}
	shows(t, d, h.desktopOf("alice", AttachedNew))
	img, err := d.Image(deadlined(t))
	if err != nil {
		t.Fatal(err)
	}
	if share := testlab.Share(img, accent); share < 0.0005 {
		t.Errorf("%.5f of the screen has the host's colour", share)
	}
	client.Disconnect()
	gone := h.wait(t, "alice", sessions.StateDisconnected)
	freerdp(t, d, h, "ALICE@contoso.example")
	if back := h.wait(t, "alice", sessions.StateActive); back.ID != gone.ID {
		t.Errorf("reconnected to session %d, not %d", back.ID, gone.ID)
	}
	shows(t, d, h.desktopOf("alice", AttachedReconnected))
	if err := h.Model().Logoff(8); err != nil { // seen at once, without the clock
		t.Fatal(err)
	}
	shows(t, d, h.desktopOf("alice", AttachedReconnected))
}

func TestLogoffByKeyAndByButton(t *testing.T) {
	testlab.Require(t, "xfreerdp|xfreerdp3", "xdotool")
	t.Parallel()
	h := start(t, Config{Name: "bremen", Clock: newClock().Now, RDP: RDP{Refresh: time.Hour}})
	d := testlab.StartDisplay(t)
	for _, args := range [][]string{
		{"mousemove", "400", "400", "key", "l"},
		{"mousemove", "90", "707", "click", "1"},
	} {
		client := freerdp(t, d, h, "alice", "-decorations")
		h.wait(t, "alice", sessions.StateActive)
		shows(t, d, h.desktopOf("alice", AttachedNew))
		// On a busy machine the input did once not arrive. A user would try
		// again, too.
		for tries := 0; len(h.Model().Sessions()) > 3 && tries < 10; tries++ {
			press(t, d, args...)
			time.Sleep(500 * time.Millisecond)
		}
		h.wait(t, "alice", sessions.StateUnknown)
		if err := client.Wait(deadlined(t)); err == nil || !strings.Contains(client.Output(), "LOGOFF_BY_USER") {
			t.Errorf("%q: the client ended with %v and said %s", args, err, client.Output())
		}
	}
}

func TestAFullHostSaysSoInMicrosoftsWords(t *testing.T) {
	testlab.Require(t, "xfreerdp|xfreerdp3", "tesseract")
	t.Parallel()
	d := testlab.StartDisplay(t)
	for _, noticeFor := range []time.Duration{time.Minute, time.Millisecond} {
		h := start(t, Config{
			Name: "dresden", Options: Options{Slots: 1, CountDisconnected: true}, RDP: RDP{NoticeFor: noticeFor},
		})
		if err := h.Model().Seed(Seed{Account: user("bob"), DisconnectedAgo: time.Hour}); err != nil {
			t.Fatal(err)
		}
		client := freerdp(t, d, h, "alice")
		if noticeFor == time.Minute { // long enough to be read by a slow reader
			see(t, d, "terminal server has exceeded the maximum", "number of allowed connections")
			client.Kill()
			continue
		}
		if err := client.Wait(deadlined(t)); err == nil || !strings.Contains(client.Output(), "SERVER_DENIED_CONNECTION") {
			t.Errorf("the client ended with %v and said %s", err, client.Output())
		}
	}
}

func TestASecondClientOfTheSameUserTakesOver(t *testing.T) {
	testlab.Require(t, "xfreerdp|xfreerdp3", "rdesktop")
	t.Parallel()
	h := start(t, Config{Name: "leipzig", Clock: newClock().Now, RDP: RDP{Refresh: time.Hour}})
	d, d2 := testlab.StartDisplay(t), testlab.StartDisplay(t)
	first := freerdp(t, d, h, "alice")
	s := h.wait(t, "alice", sessions.StateActive)
	shows(t, d, h.desktopOf("alice", AttachedNew))
	testlab.RDesktop(t, d2, testlab.ClientOptions{Addr: h.rdp, User: "alice", Size: "1024x768", Extra: []string{"-D", "-a", "24"}})
	if err := first.Wait(deadlined(t)); err == nil || !strings.Contains(first.Output(), "DISCONNECTED_BY_OTHER_CONNECTION") {
		t.Errorf("the first client ended with %v and said %s", err, first.Output())
	}
	if now := h.wait(t, "alice", sessions.StateActive); now.ID != s.ID {
		t.Errorf("session %d became %d", s.ID, now.ID)
	}
	shows(t, d2, h.desktopOf("alice", AttachedTookOver))
}

// TestNLAWithARealClient: xfreerdp's own CredSSP and NTLM, both ways of saying yes.
func TestNLAWithARealClient(t *testing.T) {
	testlab.Require(t, "xfreerdp|xfreerdp3")
	t.Parallel()
	for _, nla := range []NLA{NLAHybrid, NLAHybridEx} {
		h, refused := guarded(t, nla)
		d := testlab.StartDisplay(t)
		for i, o := range []testlab.ClientOptions{{User: "alice", Password: "geheim"}, {User: "mallory", Password: "geheim€"}} {
			o.Addr, o.Extra = h.rdp, []string{"+auth-only"}
			client := testlab.XFreeRDP(t, d, o)
			if err := client.Wait(deadlined(t)); err == nil || refused() != i+1 {
				t.Errorf("%+v: %v, the host tells of %d refusals: %s", o, err, refused(), client.Output())
			}
		}
		client := testlab.XFreeRDP(t, d, testlab.ClientOptions{Addr: h.rdp, User: "alice", Password: "geheim€", Size: "1024x768"})
		if s := h.wait(t, "alice", sessions.StateActive); s.Account != user("alice") {
			t.Errorf("%+v: %s", s, client.Output())
		}
		client.Disconnect()
	}
}
