package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// written is an audit of n records in a folder of its own, and its file.
func written(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	add(t, path, Rotation{}, n)
	return path
}

// add adds n records to the audit at path, in one run of the broker.
func add(t testing.TB, path string, rotation Rotation, n int) {
	t.Helper()
	w, err := Open(path, rotation, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for i := range n {
		w.Record(Record{Time: time.Unix(int64(i), 0).UTC(), Event: Decided, Farm: fmt.Sprintf("farm-%d", i)})
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if s := w.Stats(); s.Dropped+s.Failed > 0 {
		t.Fatalf("records were lost: %+v", s)
	}
}

// verify verifies the audit at path as the command does.
func verify(t testing.TB, path string, heads ...Head) Verdict {
	t.Helper()
	kept, err := KeptHead(path)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Files(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(context.Background(), Check{Files: files, Heads: append(heads, kept), Whole: true})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func linesOf(t testing.TB, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
}

func store(t testing.TB, path string, parts ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(parts, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestChainOfOneFile(t *testing.T) {
	path := written(t, 5)
	v := verify(t, path)
	if v.Broken != nil || v.Lines != 5 || v.First != 1 || v.Head.Seq != 5 || len(v.Notes) > 0 {
		t.Errorf("%+v", v)
	}
	// Anybody can check it with sed and sha256sum.
	tail := regexp.MustCompile(`,"hash":"([0-9a-f]{64})"}\n?$`)
	prev := strings.Repeat("0", 64)
	for _, line := range linesOf(t, path) {
		m := tail.FindStringSubmatchIndex(line)
		sum := sha256.Sum256([]byte(line[:m[0]]))
		if hash := line[m[2]:m[3]]; hash != hex.EncodeToString(sum[:]) || !strings.Contains(line, `"prev":"`+prev+`"`) {
			t.Errorf("%s", line)
		} else {
			prev = hash
		}
	}
	if prev != v.Head.Hash {
		t.Errorf("the head is %s", v.Head)
	}
	if h, err := ParseHead(v.Head.String()); err != nil || h != v.Head {
		t.Errorf("%s reads back as %s, %v", v.Head, h, err)
	}
}

func TestTampering(t *testing.T) {
	const n = 9
	for name, c := range map[string]struct {
		tamper func(lines []string) []string
		line   int // 0: at the end
		why    string
	}{
		"nothing":          {func(l []string) []string { return l }, -1, ""},
		"a line taken out": {func(l []string) []string { return slices.Delete(l, 3, 4) }, 4, "line 4 are|line 4 is|line 4"},
		"lines taken out":  {func(l []string) []string { return slices.Delete(l, 3, 6) }, 4, "lines 4 to 6 are missing before it"},
		"a word changed": {func(l []string) []string {
			l[4] = strings.Replace(l[4], "farm-4", "farm-5", 1)
			return l
		}, 5, "line 5 of the chain was changed"},
		"two lines in each other's place": {func(l []string) []string { l[2], l[3] = l[3], l[2]; return l }, 3, "missing before it"},
		"a line twice":                    {func(l []string) []string { return slices.Insert(l, 4, l[3]) }, 5, "does not belong after line 4"},
		"the first line":                  {func(l []string) []string { return l[1:] }, 1, "line 1"},
		"the last lines":                  {func(l []string) []string { return l[:n-2] }, 0, "lines 8 to 9 are missing at the end"},
		"everything":                      {func([]string) []string { return []string{""} }, 0, "lines 1 to 9 are missing at the end"},
		"nonsense between":                {func(l []string) []string { return slices.Insert(l, 4, "nonsense\n") }, 5, "this is no line of the chain"},
		"an old line between":             {func(l []string) []string { return slices.Insert(l, 4, `{"event":"decided","farm":"x"}`+"\n") }, 5, "no line of the chain"},
		"an empty line between":           {func(l []string) []string { return slices.Insert(l, 4, "\n") }, 5, "no line of the chain"},
		"a line joined with the next":     {func(l []string) []string { l[3] = strings.TrimSuffix(l[3], "\n"); return l }, 4, "changed|no line"},
		"an old line before, and one less": {func(l []string) []string {
			return slices.Insert(l[1:], 0, `{"event":"decided","farm":"x"}`+"\n")
		}, 2, "from before there was a chain"},
		// Whoever computes all hashes anew is found out by the head that was kept.
		"made anew": {func(l []string) []string {
			var out []string
			var h Head
			for i := range l {
				b, next, err := h.link(Record{Event: Decided, Farm: fmt.Sprintf("forged-%d", i)})
				if err != nil {
					t.Fatal(err)
				}
				out, h = append(out, string(b)), next
			}
			return out
		}, 9, "not the one whose hash was kept"},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, n)
			store(t, path, c.tamper(linesOf(t, path))...)
			v := verify(t, path)
			switch {
			case c.line < 0 && v.Broken != nil:
				t.Errorf("%s", v.Broken)
			case c.line >= 0 && (v.Broken == nil || v.Broken.Line != c.line || !regexp.MustCompile(c.why).MatchString(v.Broken.Why)):
				t.Errorf("it says %v", v.Broken)
			}
		})
	}
}

// TestAHeadThatWasKeptElsewhere shows what the broker's own cannot: whoever cuts off
// the end may cut the head too.
func TestAHeadThatWasKeptElsewhere(t *testing.T) {
	path := written(t, 6)
	kept := verify(t, path).Head
	add(t, path, Rotation{}, 3)
	if v := verify(t, path, kept); v.Broken != nil || v.Head.Seq != 9 {
		t.Fatalf("%+v", v)
	}
	lines := linesOf(t, path)
	l, _, _ := unlink([]byte(strings.TrimSuffix(lines[3], "\n")))
	store(t, path, lines[:4]...)
	if err := writeHead(path, Head{l.Seq, l.Hash}); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, path); v.Broken != nil {
		t.Fatalf("%s", v.Broken)
	}
	if v := verify(t, path, kept); v.Broken == nil || !strings.Contains(v.Broken.Why, "lines 5 to 6 are missing at the end") {
		t.Errorf("it says %v", v.Broken)
	}
}

// TestAnyChangeShows: whatever one byte, or a run of lines, is changed into.
func TestAnyChangeShows(t *testing.T) {
	path := written(t, 12)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		bad := bytes.Clone(good)
		switch rapid.IntRange(0, 2).Draw(rt, "how") {
		case 0: // the end of the very last line is not part of the record
			at := rapid.IntRange(0, len(bad)-2).Draw(rt, "at")
			bad[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "by"))
		case 1:
			from := rapid.IntRange(0, len(bad)-2).Draw(rt, "from")
			to := rapid.IntRange(from+1, len(bad)-1).Draw(rt, "to")
			bad = slices.Delete(bad, from, to)
		case 2:
			at := rapid.IntRange(0, len(bad)-2).Draw(rt, "at")
			bad = slices.Insert(bad, at, rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(rt, "text")...)
		}
		if bytes.Equal(bad, good) {
			rt.Skip("nothing was changed")
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			rt.Fatal(err)
		}
		if v := verify(t, path); v.Broken == nil {
			rt.Fatalf("nothing shows: %+v", v)
		}
	})
}

func TestCrashTearsALine(t *testing.T) {
	for name, c := range map[string]struct {
		torn  func(last string) string // what is left of the last line
		notes string
		lines uint64 // of the chain, after three more records
	}{
		"half of it":                             {func(l string) string { return l[:len(l)/2] }, "1: \\d+ bytes|cut off", 4 + 1 + 3},
		"one byte":                               {func(l string) string { return l[:1] }, "before it, 1 bytes", 4 + 1 + 3},
		"all but the end":                        {func(l string) string { return l[:len(l)-1] }, "^$", 5 + 3},
		"nothing":                                {func(string) string { return "" }, "^$", 4 + 3},
		"half, and an empty end":                 {func(l string) string { return l[:len(l)/2] + "\n" }, "cut off", 4 + 1 + 3},
		"zeros, as some file systems leave them": {func(string) string { return strings.Repeat("\x00", 512) }, "512 bytes", 4 + 1 + 3},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, 5)
			l := linesOf(t, path)
			before, _, _ := unlink([]byte(strings.TrimSuffix(l[3], "\n")))
			store(t, path, append(l[:4:4], c.torn(l[4]+"\n"))...)
			// The head is kept a second later, so that it is behind after a crash.
			if err := writeHead(path, Head{before.Seq, before.Hash}); err != nil {
				t.Fatal(err)
			}
			if v := verify(t, path); v.Broken != nil {
				t.Errorf("before the start it says %s", v.Broken)
			}
			add(t, path, Rotation{}, 3)
			v := verify(t, path)
			if v.Broken != nil || v.Head.Seq != c.lines || !regexp.MustCompile(c.notes).MatchString(strings.Join(v.Notes, "\n")) {
				t.Errorf("%+v %v", v, v.Broken)
			}
			// The torn bytes stay as they are: what they were is known.
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if torn := c.torn(l[4] + "\n"); len(torn) > 1 && strings.Contains(torn, "farm") {
				i := bytes.Index(b, []byte("farm-2"))
				b[i+5] = '7'
				store(t, path, string(b))
				if v := verify(t, path); v.Broken == nil {
					t.Error("a change beside it does not show")
				}
			}
		})
	}
}

func TestTornBytesCannotBeChanged(t *testing.T) {
	path := written(t, 2)
	l := linesOf(t, path)
	first, _, _ := unlink([]byte(strings.TrimSuffix(l[0], "\n")))
	store(t, path, l[0], l[1][:40])
	if err := writeHead(path, Head{first.Seq, first.Hash}); err != nil {
		t.Fatal(err)
	}
	add(t, path, Rotation{}, 1)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	store(t, path, strings.Replace(string(b), l[1][:40], l[1][:39]+"X", 1))
	if v := verify(t, path); v.Broken == nil || v.Broken.Line != 2 {
		t.Errorf("it says %v", v.Broken)
	}
}

// TestLinesCutOffWhileTheBrokerIsStopped are noted by it, and stay a break.
func TestLinesCutOffWhileTheBrokerIsStopped(t *testing.T) {
	path := written(t, 8)
	store(t, path, linesOf(t, path)[:5]...)
	add(t, path, Rotation{}, 2)
	v := verify(t, path)
	if v.Broken == nil || v.Broken.Line != 6 || !strings.Contains(v.Broken.Why, "lines 6 to 8 were missing already when the broker started here") {
		t.Errorf("it says %v", v.Broken)
	}
}

func TestFilesFromBeforeTheChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	store(t, path, `{"time":"2026-03-01T08:30:00Z","event":"decided","farm":"office"}`+"\n", `{"event":"refused","farm":"office"}`+"\n")
	add(t, path, Rotation{}, 2)
	v := verify(t, path)
	if v.Broken != nil || v.Unchained != 2 || v.First != 1 || v.Head.Seq != 2 {
		t.Errorf("%+v", v)
	}
}

func TestNotTheHeadOfAChain(t *testing.T) {
	for _, s := range []string{"", "1", "x:" + firstPrev, "1:abc", "-1:" + firstPrev, "1:" + strings.ToUpper(strings.Repeat("a", 64))} {
		if h, err := ParseHead(s); err == nil {
			t.Errorf("%q is %v", s, h)
		}
	}
}

func FuzzUnlink(f *testing.F) {
	b, _, err := Head{}.link(Record{Event: Decided, Farm: "office"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-1])
	f.Add([]byte(`{"event":"decided"}`))
	f.Add([]byte(`,"seq":1,"prev":"","hash":""}`))
	f.Add([]byte(`,"seq":18446744073709551616,"prev":"` + firstPrev + `","hash":"` + firstPrev + `"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		l, body, ok := unlink(line)
		if !ok {
			return
		}
		if again := fmt.Sprintf(`%s,"hash":"%s"}`, body, l.Hash); again != string(line) {
			t.Errorf("%q becomes %q", line, again)
		}
		if !bytes.HasSuffix(body, fmt.Appendf(nil, `,"seq":%d,"prev":"%s"`, l.Seq, l.Prev)) {
			t.Errorf("%q is line %d after %s", line, l.Seq, l.Prev)
		}
	})
}
