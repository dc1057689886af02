package audit

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func names(t testing.TB, path string) []string {
	t.Helper()
	files, err := Files(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files
}

// count reads all records there are.
func count(t testing.TB, path string) (n int) {
	t.Helper()
	files, err := Files(path)
	if err != nil {
		t.Fatal(err)
	}
	if skipped, err := Read(context.Background(), files, func(l Line) error {
		if l.Event != Noted {
			n++
		}
		return nil
	}); err != nil || skipped > 0 {
		t.Fatalf("%d lines are none: %v", skipped, err)
	}
	return n
}

func TestTheFileIsMovedAwayBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	r := Rotation{Size: 2000, Compress: true}
	add(t, path, r, 30)
	add(t, path, r, 30) // the chain goes on over a restart
	w, err := Open(path, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.tidyNow(context.Background(), time.Now()); err != nil {
		t.Fatal(err)
	}
	files := names(t, path)
	if len(files) < 5 || files[len(files)-1] != "audit.jsonl" {
		t.Errorf("the files are %q", files)
	}
	for _, f := range files[:len(files)-1] {
		if !strings.HasSuffix(f, ".jsonl.gz") {
			t.Errorf("%s was not packed", f)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > r.Size {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	if v := verify(t, path); v.Broken != nil || v.First != 1 || v.Head.Seq != 60 {
		t.Errorf("%+v %v", v, v.Broken)
	}
	if n := count(t, path); n != 60 {
		t.Errorf("%d records are there", n)
	}
	// A file that is gone shows.
	if err := os.Remove(filepath.Join(filepath.Dir(path), files[2])); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, path); v.Broken == nil || v.Broken.Line != 1 || !strings.Contains(v.Broken.Why, "are missing before it") {
		t.Errorf("it says %v", v.Broken)
	}
}

func TestTheFileIsMovedAwayByAge(t *testing.T) {
	path := written(t, 3) // records of 1970
	add(t, path, Rotation{Age: time.Hour}, 1)
	if got := names(t, path); len(got) != 2 || !strings.Contains(got[0], "Z-1-3.jsonl") {
		t.Errorf("the files are %q", got)
	}
	if v := verify(t, path); v.Broken != nil || v.Head.Seq != 4 {
		t.Errorf("%+v", v)
	}
}

func TestWhatIsTooOldIsDeletedAndNoted(t *testing.T) {
	for name, r := range map[string]Rotation{
		"by age":    {Size: 2000, Keep: time.Hour},
		"by number": {Size: 2000, Files: 2},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			add(t, path, Rotation{Size: 2000}, 40)
			before := names(t, path)
			w, err := Open(path, r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.tidyNow(context.Background(), time.Now().Add(30*time.Minute)); err != nil {
				t.Fatal(err)
			}
			if r.Keep > 0 && len(names(t, path)) != len(before) {
				t.Error("a file was deleted too early")
			}
			if err := w.tidyNow(context.Background(), time.Now().Add(2*time.Hour)); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			after := names(t, path)
			if len(after) >= len(before) || r.Files > 0 && len(after) < r.Files {
				t.Errorf("%d files became %q", len(before), after)
			}
			v := verify(t, path)
			if v.Broken != nil || v.First == 1 && len(after) > 1 || !strings.Contains(strings.Join(v.Notes, "\n"), "were deleted because they were old enough") {
				t.Errorf("%+v %v", v, v.Broken)
			}
			if r.Files == 0 {
				return
			}
			// That somebody else has deleted one more still shows.
			if err := os.Remove(filepath.Join(filepath.Dir(path), after[0])); err != nil {
				t.Fatal(err)
			}
			if v := verify(t, path); v.Broken == nil {
				t.Error("a file that was taken away does not show")
			}
		})
	}
}

// TestLogrotate moves and packs the file by itself.
func TestLogrotate(t *testing.T) {
	path := written(t, 3)
	if err := pack(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".gz", path+".2.gz"); err != nil {
		t.Fatal(err)
	}
	add(t, path, Rotation{}, 3) // while the broker was stopped: the chain goes on
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(t, path, Rotation{}, 3)
	if got := strings.Join(names(t, path), " "); got != "audit.jsonl.2.gz audit.jsonl.1 audit.jsonl" {
		t.Errorf("the files are %s", got)
	}
	if v := verify(t, path); v.Broken != nil || v.Head.Seq != 9 {
		t.Errorf("%+v %v", v, v.Broken)
	}
}

func TestAFileThatCannotBeMovedStaysInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w, err := Open(path, Rotation{Size: 500}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Record(Record{Event: Decided, Farm: strings.Repeat("x", 600)})
	w.mu.Lock()
	w.write(<-w.queue)
	for i := range 60 { // folders take the names, whichever second it is
		blocked := rotatedName(path, time.Now().Add(time.Duration(i)*time.Second), Span{1, 1})
		if err := os.MkdirAll(filepath.Join(blocked, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.mu.Unlock()
	w.Record(Record{Event: Decided, Farm: "second"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.Stats(); got.Written != 2 {
		t.Errorf("%+v", got)
	}
	if got := linesOf(t, path); len(got) != 2 {
		t.Errorf("the file has %d lines", len(got))
	}
}

func TestNamesOfRotatedFiles(t *testing.T) {
	at := time.Date(2026, 3, 1, 8, 30, 0, 0, time.UTC)
	for _, path := range []string{"/var/log/audit.jsonl", "/var/log/audit", "a.b/c.d.json"} {
		name := rotatedName(path, at, Span{7, 19})
		for _, end := range []string{"", ".gz"} {
			r, ok := parseRotated(path, filepath.Base(name)+end)
			if !ok || !r.at.Equal(at) || r.lines != (Span{7, 19}) || r.packed != (end != "") {
				t.Errorf("%s%s: %+v, %v", name, end, r, ok)
			}
		}
		for _, other := range []string{filepath.Base(path), filepath.Base(path) + ".head", "other" + filepath.Base(name), filepath.Base(name) + ".gz.tmp", filepath.Base(name) + "x"} {
			if _, ok := parseRotated(path, other); ok {
				t.Errorf("%s is a file of %s", other, path)
			}
		}
	}
}

func TestFollow(t *testing.T) {
	path := written(t, 3)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan uint64, 100)
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, path, 2, func(l Line) error { got <- l.Seq; return nil })
	}()
	next := func(want uint64) {
		t.Helper()
		select {
		case n := <-got:
			if n != want {
				t.Errorf("line %d, not %d", n, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("line %d does not come", want)
		}
	}
	next(3)
	add(t, path, Rotation{}, 1)
	next(4)
	add(t, path, Rotation{Size: 1}, 1) // it is moved away
	next(5)
	add(t, path, Rotation{}, 1)
	next(6)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
