package live

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func text(s string) func() []byte { return func() []byte { return []byte(s) } }

// Whatever is published and read in whatever order: a reader gets every event once
// and in order, or is told how many it has missed.
func TestNothingIsLostSilently(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keep := rapid.IntRange(1, 9).Draw(t, "keep")
		h := NewHub(keep, 1)
		before := rapid.IntRange(0, 20).Draw(t, "before")
		for range before {
			h.Publish("x", text(""))
		}
		from := uint64(rapid.IntRange(0, before+3).Draw(t, "from"))
		r, err := h.Read(from)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		at, published := min(from, uint64(before)), uint64(before)
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			for range rapid.IntRange(1, 12).Draw(t, "news") {
				h.Publish("x", text(""))
				published++
			}
			events, missed, err := r.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			at += missed
			for _, e := range events {
				if at++; e.Seq != at {
					t.Fatalf("event %d comes as number %d", e.Seq, at)
				}
			}
			if at != published || len(events) > keep {
				t.Fatalf("%d of %d were told, %d at once", at, published, len(events))
			}
		}
	})
}

func TestReadersAreBounded(t *testing.T) {
	h := NewHub(4, 2)
	a, err := h.Read(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Read(0); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Read(0); !errors.Is(err, ErrFull) {
		t.Errorf("the third of two: %v", err)
	}
	a.Close()
	a.Close()
	if _, err := h.Read(0); err != nil || h.Readers() != 2 {
		t.Errorf("after one has left: %v, %d", err, h.Readers())
	}
}

func TestDataIsMadeOnceAndOnlyForReaders(t *testing.T) {
	h := NewHub(4, 9)
	var mu sync.Mutex
	made := 0
	h.Publish("x", func() []byte { mu.Lock(); defer mu.Unlock(); made++; return nil })
	if made != 0 {
		t.Error("made for nobody")
	}
	for range 3 {
		r, err := h.Read(0)
		if err != nil {
			t.Fatal(err)
		}
		events, _, err := r.Next(t.Context())
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		events[0].Data()
		r.Close()
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

func TestWaitingReadersWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(4, 9)
		r, err := h.Read(h.Last())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make(chan string, 1)
		go func() {
			events, _, err := r.Next(t.Context())
			if err != nil || len(events) != 1 {
				t.Error(events, err)
				got <- ""
				return
			}
			got <- string(events[0].Data())
		}()
		synctest.Wait()
		h.Publish("x", text("news"))
		if s := <-got; s != "news" {
			t.Errorf("it got %q", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without news: %v", err)
		}
	})
}

func TestStream(t *testing.T) {
	h := NewHub(2, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := Serve(w, r, h, h.Last()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	for i := range 5 {
		h.Publish("decision", text(fmt.Sprintf("{\"n\":%d}\nsecond line", i)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "1")
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Errorf("the stream is of type %s", got)
	}
	in := bufio.NewScanner(res.Body)
	var got strings.Builder
	read := func(until string) {
		for in.Scan() {
			got.WriteString(in.Text() + "\n")
			if in.Text() == until {
				return
			}
		}
		t.Fatalf("the stream ended with %q (%v)", got.String(), in.Err())
	}
	read(`data: {"n":4}`)
	read("")
	want := "retry: 2000\n\nevent: missed\ndata: 2\n\nid: 4\nevent: decision\ndata: {\"n\":3}\ndata: second line\n\nid: 5\nevent: decision\ndata: {\"n\":4}\ndata: second line\n\n"
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	second, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = second.Body.Close()
	if second.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many gets %d", second.StatusCode)
	}
	cancel()
}
