package e2e

import (
	"context"
	"image"
	_ "image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
)

const aMinute = 90 * time.Second

// startDemo runs `rdpbroker demo` and returns where RDP clients connect.
func startDemo(t *testing.T, ctx context.Context, args ...string) (r *running, rdp string) {
	t.Helper()
	r = start(t, "rdpbroker", append([]string{"demo"}, args...)...)
	return r, r.waitPrinted(ctx, `Point any RDP client at (\S+:\d+)`)[1]
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestDemo: clients get a desktop from a farm without a free slot, by the lines that
// it prints, and room is made for those only whose password is right.
func TestDemo(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, 2*aMinute)
	demo, rdp := startDemo(t, ctx)
	metrics := demo.waitPrinted(ctx, `(http://\S+)/metrics`)[1]
	socket := demo.waitPrinted(ctx, `rdpbroker top --socket (\S+)`)[1]

	// A wrong password makes no room.
	guesser := demo.waitPrinted(ctx, `xfreerdp (.*/p:wrong /u:\w+)`)[1]
	screen := testlab.StartDisplay(t)
	if err := printedClient(t, screen, rdp, guesser).Wait(ctx); err == nil {
		t.Error("a wrong password is let in")
	}
	demo.waitPrinted(ctx, `ts1 +logon refused: \S+frank`)

	// The name of a neighbour tells the host: OCR reads big letters badly.
	// A new user: the stalest session makes room.
	screen = testlab.StartDisplay(t)
	erin := printedClient(t, screen, rdp, demo.waitPrinted(ctx, `xfreerdp (.*/u:erin)`)[1])
	if _, err := screen.WaitText(ctx, "erin", "bob", "Room was made for you", "alice"); err != nil {
		t.Fatalf("%v\nclient: %s", err, erin.Output())
	}

	// Somebody with a session gets it back.
	screen = testlab.StartDisplay(t)
	carol := printedClient(t, screen, rdp, demo.waitPrinted(ctx, `xfreerdp (.*/u:carol)`)[1])
	if _, err := screen.WaitText(ctx, "carol", "dave", "Reconnected to your session"); err != nil {
		t.Fatalf("%v\nclient: %s", err, carol.Output())
	}

	// A client of another make (grdp), and the next victim.
	shot, secret := filepath.Join(t.TempDir(), "desktop.png"), filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("demo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, "rdpprobe") // beside rdpbroker
	out, code := call(t, "rdpbroker", "probe", rdp, "--user", "frank", "--password-file", secret, "--screenshot", shot)
	if code != 0 {
		t.Fatalf("probe ended with %d: %s", code, out)
	}
	f, err := os.Open(shot)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, _, err := image.Decode(f); err != nil || img.Bounds().Dx() < 640 {
		t.Errorf("the screenshot: %v", err)
	}

	if out, code = call(t, "rdpbroker", "sessions", "--socket", socket); code != 0 || !strings.Contains(out, "erin") || strings.Contains(out, "alice") {
		t.Errorf("sessions ended with %d:\n%s", code, out)
	}
	if out, code = call(t, "rdpbroker", "explain", "dave", "--socket", socket); code != 0 || !strings.Contains(out, "ts2") {
		t.Errorf("explain ended with %d:\n%s", code, out)
	}
	if out, code = call(t, "rdpbroker", "hosts", "--socket", socket, "--json"); code != 0 || !strings.Contains(out, `"ts1"`) {
		t.Errorf("hosts ended with %d:\n%s", code, out)
	}
	_, text := get(t, metrics+"/metrics")
	for _, want := range []string{
		`rdpbroker_evictions_total\{farm="demo",outcome="evicted"\} 2`,
		`rdpbroker_decisions_total\{farm="demo",kind="reconnect",reason="own-session"\} 1`,
		// One for frank if he is back soon after his wrong password, else two.
		`rdpbroker_decisions_total\{farm="demo",kind="make-room",reason="victim"\} [23]`,
		`rdpbroker_slots_limit\{farm="demo",host="ts1"\} 2`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(text) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if status, body := get(t, metrics+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d %s", status, body)
	}
	if err := demo.end(ctx, syscall.SIGINT); err != nil {
		t.Errorf("after Ctrl-C it ended with %v", err)
	}
}

// printedClient runs the arguments that the demo printed for FreeRDP.
func printedClient(t *testing.T, d *testlab.Display, addr, args string) *testlab.Client {
	t.Helper()
	o := testlab.ClientOptions{Addr: addr, Size: "1000x700"}
	for _, a := range strings.Fields(args) {
		switch name, value, _ := strings.Cut(a, ":"); name {
		case "/v":
			o.Addr = value
		case "/u":
			o.User = value
		case "/p":
			o.Password = value
		}
	}
	return testlab.XFreeRDP(t, d, o)
}

// TestDemoWithoutBroker: the same client meets the sentence.
func TestDemoWithoutBroker(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, aMinute)
	demo, rdp := startDemo(t, ctx, "--without-broker")
	screen := testlab.StartDisplay(t)
	erin := printedClient(t, screen, rdp, demo.waitPrinted(ctx, `xfreerdp (.*/u:erin)`)[1])
	if _, err := screen.WaitText(ctx, "exceeded the maximum number of allowed connections"); err != nil {
		t.Fatalf("%v\nclient: %s", err, erin.Output())
	}
	if err := demo.end(ctx, syscall.SIGTERM); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestDemoAddresses: the ports can be fixed, and a port in use is said to be.
func TestDemoAddresses(t *testing.T) {
	t.Parallel()
	ctx := deadline(t, aMinute)
	_, rdp := startDemo(t, ctx)
	out, code := call(t, "rdpbroker", "demo", "--listen", rdp)
	if code != 1 || !strings.Contains(out, "address already in use") {
		t.Errorf("a second demo on the same port ended with %d: %s", code, out)
	}
}
