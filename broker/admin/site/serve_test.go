package site_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/admin/site"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func local() http.Handler {
	return site.Local(api.Config{State: admintest.NewState()}, admintest.Scraped, auth.New(auth.Config{}))
}

// folder is a temporary folder with a name short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "adm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// serve serves h on ln until stop is called, which waits for the end.
func serve(t *testing.T, ln net.Listener, h http.Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- site.Serve(ctx, ln, h, site.Options{}) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestSocketIsForOwnerAndGroup(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("mode bits mean nothing there")
	}
	path := filepath.Join(folder(t), "run", "admin.sock")
	ln, err := site.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("the folder is %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	_ = ln.Close() // twice is harmless
}

func TestSocketLeftBehindIsReplaced(t *testing.T) {
	path := filepath.Join(folder(t), "admin.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err := site.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, ln, local())
	defer stop()
	if _, err := client.NewClient(path).Hosts(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketInUseStays(t *testing.T) {
	path := filepath.Join(folder(t), "admin.sock")
	first, err := site.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, first, local())
	defer stop()
	if _, err := site.ListenUnix(path); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second broker on the socket: %v", err)
	}
	if _, err := client.NewClient(path).Hosts(t.Context()); err != nil {
		t.Errorf("the first broker's socket is spoilt: %v", err)
	}
}

func TestFileInTheWayStays(t *testing.T) {
	path := filepath.Join(folder(t), "admin.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := site.ListenUnix(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("listening on a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if _, err := site.ListenUnix(filepath.Join(path, "a", "admin.sock")); err == nil {
		t.Error("a socket below a file")
	}
}

func TestClosingLeavesAnothersSocketAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a socket in use cannot be replaced there")
	}
	path := filepath.Join(folder(t), "admin.sock")
	ln, err := site.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next, err := site.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
}

func TestServeEndsWhileSomebodyIsSilent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, ln, site.Public(admintest.NewState(), admintest.Scraped))
	silent, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	res, err := http.Get("http://" + ln.Addr().String() + "/healthz")
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	_ = res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	stop()
	if c, err := net.DialTimeout("tcp", ln.Addr().String(), time.Second); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := site.Serve(t.Context(), ln, site.Public(admintest.NewState(), admintest.Scraped), site.Options{}); err == nil {
		t.Error("no error")
	}
}
