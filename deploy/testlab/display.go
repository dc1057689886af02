package testlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Display is an X display that nobody sees (Xvfb): 1024x768, 24 bits.
type Display struct {
	// Number is N of :N.
	Number int

	proc *process
	dir  string
}

// StartDisplay starts an X display with a number that is free. It ends with the test.
func StartDisplay(t testing.TB) *Display {
	t.Helper()
	Require(t, "Xvfb", "import", "setpriv")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("pipe: %v", err)
	}
	defer r.Close()
	d := &Display{dir: t.TempDir()}
	// Without -noreset the server starts anew whenever its last client has gone, and
	// refuses the next one that comes at that moment.
	d.proc = startProcess(t, processOptions{extra: w}, "Xvfb", "-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset")
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatalf("Xvfb: %v", err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err == nil {
		d.Number, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		t.Fatalf("Xvfb told no display number: %v\n%s", err, d.proc.output())
	}
	return d
}

// Name is the display as X programs take it, ":N".
func (d *Display) Name() string { return ":" + strconv.Itoa(d.Number) }

// Env is the setting that makes X programs use the display, "DISPLAY=:N".
func (d *Display) Env() string { return "DISPLAY=" + d.Name() }

// Stop ends the display with all its windows.
func (d *Display) Stop() { d.proc.terminate(3 * time.Second) }

// Screenshot writes a picture of the display to path, in the format that its
// suffix names.
func (d *Display) Screenshot(ctx context.Context, path string) error {
	return d.shoot(ctx, path)
}

// shoot takes a picture; args are options for import(1).
func (d *Display) shoot(ctx context.Context, path string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	argv := append([]string{"-silent", "-window", "root"}, args...)
	cmd := exec.CommandContext(ctx, "import", append(argv, path)...)
	cmd.Env = append(os.Environ(), d.Env())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("screenshot of %s: %w: %s", d.Name(), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Image is a picture of the display now.
func (d *Display) Image(ctx context.Context) (image.Image, error) {
	path := filepath.Join(d.dir, "image.png")
	if err := d.shoot(ctx, path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return png.Decode(f)
}

// Share is the part of img, 0 to 1, that has exactly the colour c.
func Share(img image.Image, c color.Color) float64 {
	r, g, b, _ := c.RGBA()
	bounds, n := img.Bounds(), 0
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			if r2, g2, b2, _ := img.At(x, y).RGBA(); r == r2 && g == g2 && b == b2 {
				n++
			}
		}
	}
	return float64(n) / float64(bounds.Dx()*bounds.Dy())
}

// Text is what can be read on the display now, by OCR.
func (d *Display) Text(ctx context.Context) (string, error) {
	path := filepath.Join(d.dir, "text.png")
	if err := d.shoot(ctx, path, "-colorspace", "Gray", "-resize", "200%"); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	// Sparse text: windows lie anywhere. One thread: machines of tests are small.
	cmd := exec.CommandContext(ctx, "tesseract", path, "stdout", "--psm", "11")
	cmd.Env = append(os.Environ(), "OMP_THREAD_LIMIT=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tesseract: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// WaitText reads the display until every one of the texts stands on it, without
// regard to case, white space and letters that look like 1 and 0, and returns the text that was read last; or
// until ctx ends, with an error that quotes it.
func (d *Display) WaitText(ctx context.Context, substr ...string) (string, error) {
	if _, err := exec.LookPath("tesseract"); err != nil {
		return "", err
	}
	last := ""
	for {
		text, err := d.Text(ctx)
		if err == nil {
			last = text
			if containsAll(text, substr) {
				return text, nil
			}
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("display %s shows no %q but %q: %w", d.Name(), substr, last, errors.Join(ctx.Err(), err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func containsAll(text string, substr []string) bool {
	text = squeeze(text)
	for _, s := range substr {
		if !strings.Contains(text, squeeze(s)) {
			return false
		}
	}
	return true
}

// squeeze takes out what OCR gets wrong most: case, white space, and the
// letters that look like the digits 1 and 0.
func squeeze(s string) string {
	return lookalikes.Replace(strings.ToLower(strings.Join(strings.Fields(s), "")))
}

var lookalikes = strings.NewReplacer("l", "1", "i", "1", "|", "1", "o", "0")
