package xrdp

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/sessions"
)

var captureAs = flag.String("capture", "", "write testdata anew: the version of the xrdp that the test lab runs")

// TestFarmCapture writes what read.sh prints on real hosts to testdata:
//
//	go test -run FarmCapture -capture 0.9.21
//	TESTLAB_XRDP=/opt/xrdp go test -run FarmCapture/Xvnc -capture 0.10.1
func TestFarmCapture(t *testing.T) {
	if *captureAs == "" {
		t.Skip("only with -capture")
	}
	for _, backend := range []testlab.Backend{testlab.Xvnc, testlab.Xorg} {
		t.Run(string(backend), func(t *testing.T) {
			ctx := deadline(t)
			f := startFarm(t, testlab.XRDPOptions{Backend: backend, MaxSessions: 10}, nil)
			cfg := f.driver.cfg
			read := func() string {
				out, err := cfg.Runner.Run(ctx, script(readScript), "sh", "-s", "--", cfg.SesmanINI, cfg.SesmanLog, cfg.SocketDir)
				if err != nil {
					t.Fatal(err)
				}
				return string(out)
			}
			write := func(state, text string) {
				name := *captureAs + "-" + strings.ToLower(string(backend)) + "-" + state + ".txt"
				if err := os.WriteFile(filepath.Join("testdata", name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("empty", read())
			alice := f.connect(t, "rbalice")
			for ctx.Err() == nil {
				if out := read(); strings.Contains(out, "\nuser ") {
					write("starting", out)
					if strings.Contains(out, "\nin-use ") {
						t.Error("came too late to see the session start; try again")
					}
					break
				}
			}
			on := f.await(ctx, t, "rbalice", sessions.StateActive)
			f.connect(t, "rbaccountant1")
			f.await(ctx, t, "rbaccountant1", sessions.StateActive)
			time.Sleep(time.Until(on.LogonAt.Add(listenSlack + 3*time.Second)))
			write("connected", read())
			alice.Disconnect()
			f.await(ctx, t, "rbalice", sessions.StateDisconnected)
			write("disconnected", read())
		})
	}
}
