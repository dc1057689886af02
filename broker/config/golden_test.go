package config

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestBadFiles holds the problems of every file in testdata/bad against the
// list beside it.
func TestBadFiles(t *testing.T) {
	eachFile(t, "bad", func(t *testing.T, cfg *Config, err error) string {
		var ps Problems
		if !errors.As(err, &ps) || len(ps) == 0 {
			t.Fatalf("the error is %v, not a list of problems", err)
		}
		if cfg != nil {
			t.Error("there is a configuration beside the problems")
		}
		for _, p := range ps {
			if strings.Contains(p.String(), "hunter2") {
				t.Errorf("a password is printed: %s", p)
			}
		}
		return err.Error()
	})
}

// TestGoodFiles holds the warnings of every file in testdata/good against the
// list beside it.
func TestGoodFiles(t *testing.T) {
	eachFile(t, "good", func(t *testing.T, cfg *Config, err error) string {
		if err != nil {
			t.Fatal("\n" + err.Error())
		}
		return cfg.Warnings.Error()
	})
}

// eachFile parses every file in a folder of testdata and compares what told
// makes of the outcome with the golden file of the same name.
func eachFile(t *testing.T, folder string, told func(*testing.T, *Config, error) string) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/%s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			cfg, err := parseFile(t, file)
			got := told(t, cfg, err) + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// parseFile parses file on a machine that the test makes up: the files in
// testdata/lists are there, and a few that are named in the tests.
func parseFile(t *testing.T, file string) (*Config, error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parse(filepath.ToSlash(file), data, madeUp, nil)
}

var madeUp = machine{
	goos: "linux",
	read: func(name string) ([]byte, error) {
		if filepath.Base(filepath.Dir(name)) != "lists" {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		b, err := os.ReadFile(name)
		if err != nil {
			err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist} // the same words on every system
		}
		return b, err
	},
	stat: func(name string) (fs.FileInfo, error) {
		modes := map[string]fs.FileMode{"open.password": 0o644, "private.key": 0o640, "ts1": 0o600, "ca.pem": 0o644, "known": 0o644, "key": 0o600}
		if mode, ok := modes[filepath.Base(name)]; ok {
			return info{filepath.Base(name), mode}, nil
		}
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	},
	env: func(name string) (string, bool) { return "x", name == "SECRET" },
}

// info is a file of the made-up machine.
type info struct {
	name string
	mode fs.FileMode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return 0 }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }
