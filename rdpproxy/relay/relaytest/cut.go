package relaytest

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// testCut: the end of the context ends a relay in any state, at once.
func testCut(t *testing.T, run RunFunc) {
	why := errors.New("the proxy stops")
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, l *line)
	}{
		{"idle", func(*testing.T, *line) {}},
		{"full both ways", func(t *testing.T, l *line) {
			for _, c := range []io.Writer{l.client, l.host} {
				go func() { _, _ = io.Copy(c, newStream(1, 1<<40)) }()
			}
			for _, c := range []io.Reader{l.client, l.host} { // bytes flow, then nobody reads
				if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"half-closed", func(t *testing.T, l *line) {
			if err := l.client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(l.host); err != nil {
				t.Fatal(err)
			}
		}},
		{"the host reset, the client still talking", func(t *testing.T, l *line) {
			go func() {
				_, _ = io.CopyN(l.client, newStream(1, 1<<40), 2<<20)
				// Then slowly: after relay.MaxDrain the relay would end by itself.
				for {
					if _, err := l.client.Write(make([]byte, 1<<10)); err != nil {
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			if _, err := io.CopyN(io.Discard, l.host, 1<<20); err != nil {
				t.Fatal(err)
			}
			reset(t, l.host)
			if _, err := io.ReadAll(l.client); err != nil { // the end came through
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := start(t, run, relay.Options{Linger: -1}) // nothing else may end it
			tt.before(t, l)
			l.running(t)
			l.cancel(why)
			r := l.wait(t)
			if r.Err == nil || r.Closer == relay.CloserContext && !errors.Is(r.Err, why) {
				t.Errorf("%+v, want the cause of the context's end", r)
			}
			if tt.name == "idle" && r.Closer != relay.CloserContext {
				t.Errorf("closer %s", r.Closer)
			}
			for _, c := range []io.Reader{l.client, l.host} { // both are closed
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			}
		})
	}
}
