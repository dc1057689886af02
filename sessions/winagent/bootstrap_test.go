package winagent

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
)

func TestCommandLine(t *testing.T) {
	command := Command()
	if len(command) > 8191 {
		t.Errorf("cmd.exe takes 8191 characters, not %d", len(command))
	}
	if strings.ContainsAny(command, `&|<>^%"'`) {
		t.Error("it holds characters that cmd.exe or XML treat specially")
	}
	_, encoded, _ := strings.Cut(command, "-EncodedCommand ")
	if len(encoded) > 3000 {
		t.Errorf("the encoded script has %d characters", len(encoded))
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(raw[2*i:])
	}
	if got := string(utf16.Decode(units)); got != bootstrap {
		t.Errorf("decoded:\n%s", got)
	}
	if n := strings.Count(bootstrap, "\n"); n >= 15 {
		t.Errorf("the script has %d lines", n)
	}
	// In the variables of a shell, which must fit into the least MaxEnvelopeSizekb, 150,
	// and below Windows' bound of a variable.
	if n := len(packed()); n > 32767 {
		t.Errorf("the packed class has %d characters", n)
	}
	t.Logf("%d characters, %d of them the script; the class has %d bytes, %d as it is sent", len(command), len(encoded), len(class()), len(packed()))
}

// Windows PowerShell reads a script without a byte order mark in the code page of
// the machine, and Add-Type's compiler its source: so both are ASCII.
func TestSourcesAreASCII(t *testing.T) {
	for name, text := range map[string]string{"the class": class(), "bootstrap.ps1": bootstrap} {
		for i, r := range text {
			if r > 126 || (r < ' ' && r != '\n') {
				t.Errorf("%s: %q at byte %d", name, r, i)
			}
		}
	}
}

// TestLayouts compares the offsets that the agent reads at with a compiler's, for
// 32 and 64 bits.
func TestLayouts(t *testing.T) {
	agenttest.Require(t, "gcc")
	for _, bits := range [][]string{{"-m32", "-malign-double"}, {"-m64"}} {
		args := append(bits, "-ffreestanding", "-fsyntax-only", "agenttest/testdata/layout.c")
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", bits[0], err, out)
		}
	}
}

// TestPowerShellGrammar parses our scripts with a real grammar of PowerShell,
// since no PowerShell runs here.
func TestPowerShellGrammar(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches packages from npm")
	}
	agenttest.Require(t, "node", "npm")
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save",
		"tree-sitter-powershell@0.26.4", "web-tree-sitter@0.27.1")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("npm install: %v\n%s", err, out)
		}
		t.Skipf("npm install: %v", err)
	}
	check, err := os.ReadFile("testdata/grammar.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "grammar.mjs"), check, 0o600); err != nil {
		t.Fatal(err)
	}
	parse := func(files ...string) string {
		t.Helper()
		args := []string{"--liftoff-only", "grammar.mjs"} // the optimising compiler of WebAssembly takes 15 s for nothing
		for _, f := range files {
			abs, err := filepath.Abs(f)
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, abs)
		}
		node := exec.CommandContext(ctx, "node", args...)
		node.Dir = dir
		out, err := node.CombinedOutput()
		if err != nil {
			t.Fatalf("node: %v\n%s", err, out)
		}
		return string(out)
	}
	scripts, err := filepath.Glob("../../deploy/windows/*.ps1")
	if err != nil {
		t.Fatal(err)
	}
	if said := parse(append(scripts, "bootstrap.ps1")...); said != "" {
		t.Errorf("not PowerShell:\n%s", said)
	}
	for i, wrong := range []string{
		strings.Replace(bootstrap, "catch {", "catch", 1),
		strings.Replace(bootstrap, "exit 3 }", "exit 3", 1),
		strings.Replace(bootstrap, "[Console]::In", "[Console::In", 1),
	} {
		file := filepath.Join(dir, fmt.Sprintf("wrong%d.ps1", i))
		if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		if wrong == bootstrap || parse(file) == "" {
			t.Errorf("the grammar takes this for PowerShell:\n%s", wrong)
		}
	}
}
