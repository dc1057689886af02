package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full is a record in which every field is set.
func full() Record {
	at := time.Date(2026, 3, 1, 8, 30, 0, 123, time.UTC)
	alice := sessions.Account{Domain: "CONTOSO", User: "alice"}
	victim := placement.Victim{
		Host:            "ts1",
		Session:         sessions.Session{ID: 3, Account: sessions.Account{User: "bob"}, State: sessions.StateDisconnected, LogonAt: at, ClientAddr: netip.MustParseAddr("10.1.1.1")},
		DisconnectedFor: time.Hour,
	}
	own := sessions.Ref{Host: "ts1", ID: 5, LogonAt: at}
	return Record{
		Time: at, Event: Evicting, Farm: "office", Reservation: 7,
		Identity: sessions.Identity{
			Confidence: sessions.ConfidenceName, Said: "alice\\n<&>\u2028", Accounts: []sessions.Account{alice},
			Known: true, Client: netip.MustParseAddr("10.1.2.3"), Trusted: true, Host: "ts1",
		},
		Decision: placement.Decision{
			Kind: placement.MakeRoom, Host: "ts1", Own: &own, Victim: &victim, Would: &victim, Reason: "because",
			Candidates: []placement.Candidate{{Host: "ts1", Session: 3, Account: "bob", As: "victim", Chosen: true, Why: "stalest"}},
		},
		Account: alice, Took: time.Second, Mode: "evict", Error: "none",
		By: "anna", Session: &own, Host: "ts1", Setting: "off", Until: at.Add(time.Hour),
	}
}

func TestLinesReadBackAsTheSameRecords(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, nil)
	want := []Record{full(), {Time: time.Unix(1, 0).UTC(), Event: Refused, Farm: "a\nb"}}
	for _, r := range want {
		w.Record(r)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := records(t, &out); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := w.Stats(); got != (Stats{Written: 2}) {
		t.Errorf("Stats = %+v", got)
	}
}

func TestFileIsReopenedUnderItsName(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be renamed there")
	}
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w, err := Open(path, Rotation{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, w)
	w.Record(Record{Farm: "first"})
	eventually(t, func() bool { return w.Stats().Written == 1 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := w.Reopen(); err != nil {
		t.Fatal(err)
	}
	w.Record(Record{Farm: "second"})
	stop()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{path + ".1": "first", path: "second"} {
		if got := recordsIn(t, name); len(got) != 1 || got[0].Farm != want {
			t.Errorf("%s holds %+v, want one record of %s", name, got, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("everybody may read the audit file: %v, %v", info.Mode(), err)
	}
}

func TestAppendsToWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for _, farm := range []string{"first", "second"} {
		w, err := Open(path, Rotation{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Record(Record{Farm: farm})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := recordsIn(t, path); len(got) != 2 {
		t.Errorf("the file holds %+v", got)
	}
}

func TestReopenThatFailsKeepsTheOldFile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := NewWriter(&out, nil)
	w.path = filepath.Join(folder, "none", "none", "audit.jsonl") // one folder is made, two are a mistake
	if err := w.Reopen(); err == nil {
		t.Error("a folder that does not exist was no error")
	}
	w.Record(Record{Farm: "office"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := records(t, &out); len(got) != 1 {
		t.Errorf("the old file holds %+v", got)
	}
	if _, err := Open(w.path, Rotation{}, nil); err == nil {
		t.Error("Open succeeded without a folder")
	}
}

// gate is an output that takes nothing until it is opened.
type gate struct {
	bytes.Buffer
	open chan struct{}
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(b)
}

func TestSlowDiskDropsAndNeverBlocks(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	w := NewWriter(g, nil)
	stop := run(t, w)
	const more = 100
	for range queueLength + 1 + more { // one may be with Run already
		w.Record(Record{})
	}
	if got := w.Stats().Dropped; got < more || got > more+1 {
		t.Errorf("%d records were dropped, not about %d", got, more)
	}
	close(g.open)
	stop()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := w.Stats()
	all := records(t, &g.Buffer)
	if n := uint64(len(all)); n != got.Written+1 || got.Written+got.Dropped != queueLength+1+more {
		t.Errorf("%d lines, %+v", n, got)
	}
	var lost uint64
	for _, r := range all {
		if r.Note != nil {
			lost += r.Note.Lost
		}
	}
	if lost != got.Dropped {
		t.Errorf("the chain says that %d records were lost, not %d", lost, got.Dropped)
	}
}

func TestCloseIsHarmlessTwiceAndDropsWhatComesLater(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, nil)
	stop := run(t, w)
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.Record(Record{})
	stop()
	if err := w.Reopen(); err != nil || out.Len() != 0 {
		t.Errorf("after Close: %v, %q", err, &out)
	}
	if got := w.Stats(); got != (Stats{Dropped: 1}) {
		t.Errorf("Stats = %+v", got)
	}
}

// cutter fails while broken, after it has taken some bytes.
type cutter struct {
	bytes.Buffer
	broken bool
}

func (c *cutter) Write(b []byte) (int, error) {
	if c.broken {
		n, _ := c.Buffer.Write(b[:10])
		return n, errors.New("disk full")
	}
	return c.Buffer.Write(b)
}

func TestFullDiskIsCountedAndToldOnce(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	c := &cutter{broken: true}
	w := NewWriter(c, zap.New(core))
	for range 3 {
		w.Record(Record{Farm: "lost"})
	}
	stop := run(t, w)
	eventually(t, func() bool { return w.Stats().Failed == 3 })
	stop()
	c.broken = false
	w.Record(Record{Farm: "kept"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.Stats(); got != (Stats{Written: 1, Failed: 3}) {
		t.Errorf("Stats = %+v", got)
	}
	lines := strings.Split(strings.TrimSpace(c.String()), "\n")
	var last Record
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Farm != "kept" {
		t.Errorf("the torn line spoils the next one: %q, %v", lines, err)
	}
	if logs.Len() != 2 || logs.All()[1].ContextMap()["lost"] != uint64(3) {
		t.Errorf("the log says %+v", logs.All())
	}
}

func TestManyWritersKeepLinesWhole(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, nil)
	stop := run(t, w)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				w.Record(full())
			}
		})
	}
	wg.Wait()
	stop()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(records(t, &out)); got != 800 {
		t.Errorf("%d records arrived of 800: %+v", got, w.Stats())
	}
}

// run runs w; the function that it returns stops it and waits.
func run(t *testing.T, w *Writer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// eventually waits for cond, much longer than it can take.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); {
		if time.Now().After(end) {
			t.Fatal("it did not come to that")
		}
		time.Sleep(time.Millisecond)
	}
}

func records(t *testing.T, in *bytes.Buffer) []Record {
	t.Helper()
	var out []Record
	lines := bufio.NewScanner(bytes.NewReader(in.Bytes()))
	for lines.Scan() {
		var r Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		out = append(out, r)
	}
	return out
}

func recordsIn(t *testing.T, path string) []Record {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return records(t, bytes.NewBuffer(b))
}
