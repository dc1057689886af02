package relaytest

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/rdpbroker/rdpbroker/rdpproxy/relay"
)

// testChurn: relays come and go by the dozen, each in its own way, and the system
// uses each one's descriptors again at once. No byte may reach another one's peer,
// and none may be taken for gone while its predecessor is.
func testChurn(t *testing.T, run RunFunc) {
	const workers = 8
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range rounds {
				t.Run("", func(t *testing.T) { oneOfMany(t, run, byte(w), i) })
			}
		})
	}
	all.Wait()
}

func oneOfMany(t *testing.T, run RunFunc, id byte, i int) {
	l := start(t, run, relay.Options{})
	n := 1 + rand.IntN(200_000)
	sent := make([]byte, n)
	_, _ = newStream(id, int64(n)).Read(sent)
	ends, other := l.client, l.host
	if i%2 == 1 {
		ends, other = other, ends
	}
	var written sync.WaitGroup
	written.Go(func() {
		if _, err := ends.Write(sent); err != nil {
			t.Error(err)
		}
	})
	got := make([]byte, n)
	if _, err := io.ReadFull(other, got); err != nil || string(got) != string(sent) {
		t.Errorf("%d bytes did not arrive as they were sent: %v", n, err)
	}
	written.Wait()
	switch i % 3 {
	case 0:
		_ = ends.Close()
	case 1:
		reset(t, ends)
	case 2:
		_ = ends.CloseWrite()
	}
	b, err := io.ReadAll(other)
	if i%3 == 1 && ends == l.client && errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	if err != nil || len(b) > 0 {
		t.Errorf("%q, %v, want the end", b, err)
	}
	_ = other.Close()
	r := l.wait(t)
	if (r.Err != nil) != (i%3 == 1) || r.ToHost+r.ToClient != int64(n) {
		t.Errorf("%+v, want %d bytes", r, n)
	}
}
