package lines

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a file that lets nothing through until it is opened.
type pipe struct {
	open   chan struct{}
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
}

func (p *pipe) Write(b []byte) (int, error) {
	<-p.open
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	return p.text.Write(b)
}

func (p *pipe) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func TestLinesAreWrittenTogetherAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{open: make(chan struct{})}
		close(p.open)
		w := New(p, nil)
		var want strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&want, "line %d\n", i)
			fmt.Fprintf(w, "line %d\n", i)
		}
		if p.String() != "" {
			t.Error("the first line did not wait for others")
		}
		time.Sleep(together)
		synctest.Wait()
		if p.String() != want.String() || p.writes != 1 {
			t.Errorf("%d bytes of %d in %d writes", len(p.String()), want.Len(), p.writes)
		}
		fmt.Fprint(w, "the end\n")
		if err := w.Sync(); err != nil || !strings.HasSuffix(p.String(), "the end\n") {
			t.Errorf("after a sync: %v, %q", err, p.String()[max(0, len(p.String())-20):])
		}
	})
}

// A reader that has stopped keeps nobody, and learns afterwards what it has missed.
func TestAFileThatIsStuckKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{open: make(chan struct{})}
		w := New(p, func(n int) []byte { return fmt.Appendf(nil, "%d lost\n", n) })
		fmt.Fprint(w, "first\n")
		time.Sleep(time.Second) // it is being written
		line := bytes.Repeat([]byte{'x'}, 1<<10)
		const n = most>>10 + 7
		for range n {
			if k, err := w.Write(line); k != len(line) || err != nil {
				t.Fatal(k, err)
			}
		}
		close(p.open)
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		if got, want := p.String(), "first\n"+strings.Repeat("x", most)+"7 lost\n"; got != want {
			t.Errorf("%d bytes that end in %q", len(got), got[len(got)-10:])
		}
	})
}

func TestManyWriters(t *testing.T) {
	var b bytes.Buffer
	w := New(&b, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				fmt.Fprintln(w, "a line")
			}
		})
	}
	all.Wait()
	_ = w.Sync()
	if want := strings.Repeat("a line\n", 8000); b.String() != want {
		t.Errorf("%d bytes of %d", b.Len(), len(want))
	}
}
