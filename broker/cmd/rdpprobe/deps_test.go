// SPDX-License-Identifier: GPL-3.0-only

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rdpbroker/rdpbroker"

// TestLicencesDoNotMix keeps the packages that are under the GPL out of all
// programs and packages but this one: rdpbroker is under the Apache License.
func TestLicencesDoNotMix(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	const format = `{{.Name}} {{.ImportPath}} {{join .Deps " "}}`
	out, err := exec.Command("go", "list", "-e", "-f", format, module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	mine := []string{module + "/broker/cmd/rdpprobe", module + "/rdpproxy/probe"}
	programs := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name, path, deps := fields[0], fields[1], fields[2:]
		gpl := func(dep string) bool {
			return strings.HasPrefix(dep, "github.com/tomatome/") || dep == module+"/rdpproxy/probe"
		}
		switch {
		case slices.Contains(mine, path):
			if !slices.ContainsFunc(deps, gpl) {
				t.Errorf("%s does not use grdp: this test looks for the wrong thing", path)
			}
		case slices.ContainsFunc(deps, gpl):
			t.Errorf("%s depends on %s", path, deps[slices.IndexFunc(deps, gpl)])
		case name == "main":
			programs++
		}
	}
	if programs == 0 {
		t.Skip("there is no other program yet")
	}
}
