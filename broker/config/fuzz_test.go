package config

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse: whatever the file holds, there is a configuration or a list of
// problems that can be printed, and the same one each time.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.yaml", example} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := parse("broker.yaml", data, madeUp, nil)
		again, errAgain := parse("broker.yaml", data, madeUp, nil)
		if err != nil {
			ps, ok := err.(Problems)
			if !ok || len(ps) == 0 || cfg != nil {
				t.Fatalf("%v beside %v", err, cfg)
			}
			if errAgain == nil || errAgain.Error() != err.Error() {
				t.Fatalf("the second time the problems are others:\n%v\n%v", err, errAgain)
			}
			return
		}
		diff(t, cfg, again)
		if len(cfg.Listeners) == 0 || len(cfg.Farms) == 0 {
			t.Fatal("there is nothing to listen at, or nowhere to go")
		}
		for _, l := range cfg.Listeners {
			if cfg.Farm(l.Farm) == nil || l.Address == "" {
				t.Fatalf("the listener %+v leads nowhere", l)
			}
		}
		for _, farm := range cfg.Farms {
			if len(farm.Hosts) == 0 || farm.HardLimit < farm.SoftLimit {
				t.Fatalf("the farm %+v cannot work", farm)
			}
			for _, h := range farm.Hosts {
				ways := 0
				for _, given := range []bool{h.WinRM != nil, h.SSH != nil, h.RPC != nil, h.XRDP != nil} {
					if given {
						ways++
					}
				}
				if ways != 1 || h.Addr == "" || h.Name == "" {
					t.Fatalf("the host %+v cannot be read", h)
				}
			}
		}
	})
}
