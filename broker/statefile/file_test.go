package statefile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
)

type orders struct {
	Kept []string       `json:"kept"`
	Left map[string]int `json:"left"`
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rdpbroker", "state.json") // the folder is not there yet
	var got orders
	if err := Load(path, &got); err != nil || !reflect.DeepEqual(got, orders{}) {
		t.Fatalf("no file: %+v, %v", got, err)
	}
	for _, want := range []orders{{Kept: []string{"a", "b"}, Left: map[string]int{"x": 1}}, {Kept: []string{"c"}}} {
		if err := Save(path, want); err != nil {
			t.Fatal(err)
		}
		var got orders
		if err := Load(path, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v (%v), want %+v", got, err, want)
		}
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if info, err := os.Stat(path); runtime.GOOS != "windows" && (err != nil || info.Mode().Perm() != 0o600) {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A file that makes no sense is kept for whoever wants to know, and the broker
// begins anew.
func TestABrokenFileIsPutAside(t *testing.T) {
	for _, text := range []string{"", "{", "null", `{"version":1}`, `{"version":2,"state":{}}`, `{"version":1,"state":[1]}`, `{"version":1,"state":{"kept":7}}`, strings.Repeat(" ", maxFile+1)} {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var got orders
		err := Load(path, &got)
		var broken *BrokenError
		if !errors.As(err, &broken) || broken.Aside != path+".broken" {
			t.Errorf("%.40q: %v", text, err)
			continue
		}
		if kept, err := os.ReadFile(broken.Aside); err != nil || string(kept) != text {
			t.Errorf("%.40q is not what was put aside: %v", text, err)
		}
		if err := Load(path, &got); err != nil {
			t.Errorf("%.40q, afterwards: %v", text, err)
		}
	}
}

// What cannot be read now may be right: it is not touched.
func TestAFileThatCannotBeReadStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.Mkdir(path, 0o700); err != nil { // a folder can be opened, but not read
		t.Fatal(err)
	}
	var got orders
	err := Load(path, &got)
	var broken *BrokenError
	if err == nil || errors.As(err, &broken) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestAFailedSaveLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	want := orders{Kept: []string{"a"}}
	if err := Save(path, want); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, func() {}); err == nil {
		t.Error("a function was saved")
	}
	if err := Save(filepath.Join(path, "below", "state.json"), want); err == nil || !strings.Contains(err.Error(), "writing the state") {
		t.Errorf("below a file: %v", err)
	}
	var got orders
	if err := Load(path, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestManySaversLeaveOneWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				if err := Save(path, orders{Kept: []string{strings.Repeat("x", i*1000)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var got orders
	if err := Load(path, &got); err != nil || len(got.Kept) != 1 {
		t.Errorf("%v, %+v", err, got)
	}
}
