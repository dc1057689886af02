package admin

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

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

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
	go func() { done <- Serve(ctx, ln, h, nil) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestClientAndServer(t *testing.T) {
	path := filepath.Join(folder(t), "run", "admin.sock")
	ln, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if ln.Addr().String() != path {
		t.Errorf("it listens on %s", ln.Addr())
	}
	stop := serve(t, ln, Local(newFake(), scraped))
	defer stop()
	c, ctx := NewClient(path), t.Context()
	same := cmp.Options{cmpopts.EquateComparable(client7), cmpopts.EquateEmpty()}

	st := farmStatus()
	hosts, err := c.Hosts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := st.hosts()
	want.Waiting[1].Identity.Said = strings.ToValidUTF8(hostile, "\ufffd") // JSON is text
	if d := cmp.Diff(want, hosts, same); d != "" {
		t.Errorf("hosts: -want +got:\n%s", d)
	}
	list, err := c.Sessions(ctx, Filter{Host: "ts1", User: `CONTOSO\*`})
	if err != nil {
		t.Fatal(err)
	}
	wantList, err := st.sessions(Filter{Host: "ts1"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wantList, list, same); d != "" {
		t.Errorf("sessions: -want +got:\n%s", d)
	}
	q := Question{User: `CONTOSO\alice & co`, From: client7, Farm: "office"}
	got, err := c.Explain(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if got.Identity.Said != q.User || got.Identity.Client != q.From || got.Decision.Victim == nil {
		t.Errorf("explain: %+v", got)
	}

	var answer *AnswerError
	if _, err := c.Explain(ctx, Question{Farm: "none"}); !errors.As(err, &answer) || answer.Status != 404 || !strings.Contains(err.Error(), "the name none") {
		t.Errorf("explain in no farm: %v", err)
	}
	if _, err := c.Sessions(ctx, Filter{Host: "\x1b[2J"}); !errors.As(err, &answer) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("sessions on no host: %q", err)
	}
}

func TestSocketIsForOwnerAndGroup(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("mode bits mean nothing there")
	}
	path := filepath.Join(folder(t), "run", "admin.sock")
	ln, err := ListenUnix(path)
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
	ln, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, ln, Local(newFake(), scraped))
	defer stop()
	if _, err := NewClient(path).Hosts(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketInUseStays(t *testing.T) {
	path := filepath.Join(folder(t), "admin.sock")
	first, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, first, Local(newFake(), scraped))
	defer stop()
	if _, err := ListenUnix(path); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second broker on the socket: %v", err)
	}
	if _, err := NewClient(path).Hosts(t.Context()); err != nil {
		t.Errorf("the first broker's socket is spoilt: %v", err)
	}
}

func TestFileInTheWayStays(t *testing.T) {
	path := filepath.Join(folder(t), "admin.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("listening on a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if _, err := ListenUnix(filepath.Join(path, "a", "admin.sock")); err == nil {
		t.Error("a socket below a file")
	}
}

func TestClosingLeavesAnothersSocketAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a socket in use cannot be replaced there")
	}
	path := filepath.Join(folder(t), "admin.sock")
	ln, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next, err := ListenUnix(path)
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

func TestClientTellsWhatIsWrong(t *testing.T) {
	dir := folder(t)
	_, err := NewClient(filepath.Join(dir, "none.sock")).Hosts(t.Context())
	if err == nil || !strings.Contains(err.Error(), "is it running") || strings.Contains(err.Error(), "http://") {
		t.Errorf("without a broker: %v", err)
	}

	serveRaw := func(h http.HandlerFunc) *Client {
		path := filepath.Join(folder(t), "raw.sock")
		ln, err := ListenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(serve(t, ln, h))
		return NewClient(path)
	}
	c := serveRaw(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	if _, err := c.Hosts(t.Context()); err == nil || !strings.Contains(err.Error(), "reading the broker's hosts") {
		t.Errorf("an answer that is no JSON: %v", err)
	}
	c = serveRaw(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[2J", http.StatusBadGateway) })
	if _, err := c.Hosts(t.Context()); err == nil || err.Error() != "the broker answers 502 Bad Gateway" {
		t.Errorf("an error that is no problem: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c = serveRaw(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if _, err := c.Hosts(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("when the caller gives up: %v", err)
	}
}

func TestServeEndsWhileSomebodyIsSilent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, ln, Public(newFake(), scraped))
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
	if err := Serve(t.Context(), ln, Public(newFake(), scraped), nil); err == nil {
		t.Error("no error")
	}
}
