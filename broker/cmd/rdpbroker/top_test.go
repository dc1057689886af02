package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFrame: what is drawn over the last picture leaves nothing of it, and never
// makes the terminal scroll. A file has no size: 80 by 24 is taken.
func TestFrame(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "screen"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := frame(out, strings.Repeat(strings.Repeat("ä", 100)+"\n", 30)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	lines := strings.Split(text, "\r\n")
	if len(lines) != 24 || strings.Count(text, clearLine) != 24 || !strings.HasPrefix(text, home) || !strings.HasSuffix(text, clearBelow) {
		t.Errorf("%d lines: %q", len(lines), text)
	}
	if n := strings.Count(lines[1], "ä"); n != 80 {
		t.Errorf("a line has %d characters", n)
	}
}
