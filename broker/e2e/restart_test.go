package e2e

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
)

// TestTakeOverWithARealClient replaces the broker while xfreerdp shows a desktop of a
// real xrdp host that never stands still. The same client goes on with the same
// desktop, through the new broker: after the old one has ended, what happens there is
// shown here.
func TestTakeOverWithARealClient(t *testing.T) {
	t.Parallel()
	testlab.Require(t, "xsetroot")
	ctx := deadline(t, 3*aMinute)
	h := testlab.StartXRDP(t, "lx1", "", testlab.XRDPOptions{MaxSessions: 2})
	dir := t.TempDir()
	file := filepath.Join(dir, "broker.yaml")
	err := os.WriteFile(file, []byte(fmt.Sprintf(`listen: [{address: '127.0.0.1:0', farm: office}]
admin: {socket: admin.sock, metrics: ''}
audit: {file: ''}
state_file: ''
farms:
  office:
    hosts:
      - {name: lx1, address: '%s', xrdp: {local: true, command_prefix: ['%s'], poll: 1s}}
`, h.Addr, strings.Join(h.Prefix(), "', '"))), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	old := start(t, "rdpbroker", "serve", "-c", file)
	addr := old.waitPrinted(ctx, `"msg":"listening","address":"([^"]+)"`)[1]
	old.waitPrinted(ctx, "host is read")

	screen := testlab.StartDisplay(t)
	client := testlab.XFreeRDP(t, screen, testlab.ClientOptions{Addr: addr, User: "rbalice", Password: h.Users["rbalice"]})
	desk, err := h.WaitDesktop(ctx, "rbalice")
	if err != nil {
		t.Fatalf("%v\nclient: %s", err, client.Output())
	}
	if _, err := screen.WaitText(ctx, "HOST lx1", "USER rbalice"); err != nil {
		t.Fatalf("%v\nclient: %s", err, client.Output())
	}
	// For some seconds there is always a transfer under way.
	painting := startCommand(t, h.Background(ctx, desk, 5, "#102030", "#e0d0c0", "#405060", "#b0a090"))

	next := start(t, "rdpbroker", "serve", "--take-over", "-c", file)
	said := next.waitPrinted(ctx, `taken over from the process before","connections":(\d+),"lost":(\d+)`)
	if said[1] != "1" || said[2] != "0" {
		t.Errorf("it says: %s", said[0])
	}
	select {
	case <-old.done:
	case <-ctx.Done():
		t.Fatal("the old broker still runs")
	}
	select {
	case <-painting.done:
		if painting.err != nil {
			t.Fatalf("nothing was painted: %v: %s", painting.err, painting.output())
		}
	case <-ctx.Done():
		t.Fatal("it is still being painted")
	}
	// What happens on the desktop now is shown at the client.
	green := color.RGBA{0x12, 0xab, 0x34, 0xff}
	if out, err := h.Background(ctx, desk, 0, "#12ab34").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for {
		img, err := screen.Image(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if testlab.Share(img, green) > 0.05 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after the take-over nothing new is shown\nclient: %s", client.Output())
		case <-time.After(100 * time.Millisecond):
		}
	}
	if !client.Running() || !h.Runs(desk) {
		t.Errorf("client runs: %v, desktop runs: %v\n%s", client.Running(), h.Runs(desk), client.Output())
	}
	if strings.Contains(client.Output(), "reconnect") {
		t.Errorf("the client had to reconnect: %s", client.Output())
	}
	client.Kill() // the new broker would wait for it
	if err := next.end(ctx, syscall.SIGTERM); err != nil {
		t.Errorf("the new broker ended with %v", err)
	}
}
