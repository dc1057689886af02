// Package windows_test checks the PowerShell script of this folder as far as
// that can be done without Windows: nothing here runs it.
package windows_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/config"
)

func script(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("prepare-host.ps1")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parsed is what testdata/script.mjs found out.
type parsed struct {
	Errors, Functions []string
	Calls             []call
}

// call is one command of a script: a cmdlet, a function or a program.
type call struct {
	Line           int
	Name, Text, In string
	Under          []string // the conditions that must be true for it, inmost first
}

// grammar parses scripts with a real grammar of PowerShell, in a folder that
// has what that needs from npm.
func grammar(t *testing.T) func(script string) parsed {
	t.Helper()
	if testing.Short() {
		t.Skip("fetches packages from npm")
	}
	missing := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("CI") == "true" {
			t.Fatalf("required under CI=true: "+format, args...)
		}
		t.Skipf(format, args...)
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing("%s is not installed", tool)
		}
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	npm := exec.CommandContext(ctx, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save",
		"tree-sitter-powershell@0.26.4", "web-tree-sitter@0.27.1")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		missing("npm install: %v\n%s", err, out)
	}
	program, err := os.ReadFile("testdata/script.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "script.mjs"), program, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(script string) (p parsed) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "script.ps1"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		node := exec.CommandContext(ctx, "node", "--liftoff-only", "script.mjs", "script.ps1")
		node.Dir = dir
		out, err := node.Output()
		if err != nil {
			t.Fatalf("node: %v\n%s", err, out)
		}
		if err := json.Unmarshal(out, &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// reads are the commands that change nothing. New-Object and Set-StrictMode
// change nothing outside of the script.
var reads = regexp.MustCompile(`^(Get|Test|Write|ConvertFrom|ConvertTo|Where|Select|ForEach|Join|Resolve|Compare)-|^(Out-Null|New-Object|Set-StrictMode)$`)

// unconfirmed are the calls that change something though nobody was asked: with
// -WhatIf they would change it all the same. A function with "Confirmed" in its
// name leaves the question to its callers.
func (p parsed) unconfirmed() (bad []string) {
	for _, c := range p.Calls {
		own := slices.Contains(p.Functions, c.Name)
		changes := !reads.MatchString(c.Name) && !own || strings.Contains(c.Name, "-Confirmed")
		asked := slices.ContainsFunc(c.Under, func(cond string) bool {
			return strings.Contains(cond, "$PSCmdlet.ShouldProcess(") && !strings.Contains(cond, "-not $PSCmdlet") && !strings.Contains(cond, " -or ")
		})
		if changes && !asked && !strings.Contains(c.In, "-Confirmed") {
			bad = append(bad, fmt.Sprintf("line %d, %s: %s", c.Line, c.In, c.Name))
		}
		// A cmdlet that asks again would ask twice, or stop half-way.
		if changes && !own && !strings.Contains(c.Text, "-Confirm:$false") && !strings.Contains(c.Text, " @settings") {
			bad = append(bad, fmt.Sprintf("line %d, %s: %s asks once more", c.Line, c.In, c.Name))
		}
	}
	return bad
}

func TestGrammarAndWhatIf(t *testing.T) {
	t.Parallel()
	parse := grammar(t)
	text := script(t)
	p := parse(text)
	if len(p.Errors) > 0 {
		t.Errorf("not PowerShell: %q", p.Errors)
	}
	if len(p.Calls) < 100 || len(p.Functions) < 20 {
		t.Errorf("only %d calls and %d functions were found", len(p.Calls), len(p.Functions))
	}
	for _, bad := range p.unconfirmed() {
		t.Error(bad)
	}
	for _, f := range p.Functions {
		if !slices.ContainsFunc(p.Calls, func(c call) bool { return c.Name == f }) {
			t.Errorf("nobody calls %s", f)
		}
	}
	// The checks can fail.
	for was, is := range map[string]string{
		"    if ($PSCmdlet.ShouldProcess('WinRM RootSDDL', \"Add": "    if ($true -or $PSCmdlet.ShouldProcess('WinRM RootSDDL', \"Add",
		"'Stop the service')) { Stop-Service":                     "'Stop the service')) { }; if ($true) { Stop-Service",
		"Remove-NetFirewallRule -Name $RuleName -Confirm:$false":  "Remove-NetFirewallRule -Name $RuleName",
		"$accountName = $sid.Translate":                           "icacls.exe C:\\ /grant Everyone:F\n$accountName = $sid.Translate",
		"    Undo-Shell $state\n":                                 "    Undo-Shell $state\n    Save-ConfirmedState $state\n",
	} {
		wrong := strings.Replace(text, was, is, 1)
		if p := parse(wrong); wrong == text || len(p.Errors) > 0 || len(p.unconfirmed()) == 0 {
			t.Errorf("%q in place of %q goes unnoticed: %q", is, was, append(p.unconfirmed(), p.Errors...))
		}
	}
	if wrong := strings.Replace(text, "function Undo-Everything {", "function Undo-Everything", 1); len(parse(wrong).Errors) == 0 {
		t.Error("a missing brace goes unnoticed")
	}
}

// Windows PowerShell 5.1 reads scripts without a byte order mark in the code
// page of the machine, and does not know the operators of version 7.
func TestForWindowsPowerShell(t *testing.T) {
	later := regexp.MustCompile(`&&|\|\||\?\?|\?\.|ForEach-Object -Parallel|-AsHashtable`)
	for i, line := range strings.Split(script(t), "\n") {
		if strings.ContainsFunc(line, func(r rune) bool { return r > 126 || r < ' ' }) {
			t.Errorf("line %d is not ASCII", i+1)
		}
		if hit := later.FindString(line); hit != "" {
			t.Errorf("line %d: %s is of PowerShell 7", i+1, hit)
		}
	}
}

func TestHelp(t *testing.T) {
	help, rest, _ := strings.Cut(script(t), "#>")
	if !strings.Contains(help, "UNTESTED ON A REAL WINDOWS HOST") {
		t.Error("the help does not say that nobody has tried the script")
	}
	var declared, described []string
	params, _, _ := strings.Cut(rest, "Set-StrictMode")
	for _, m := range regexp.MustCompile(`(?m)^    \[(?:string|string\[\]|switch)\]\$(\w+)`).FindAllStringSubmatch(params, -1) {
		declared = append(declared, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^\.PARAMETER (\w+)$`).FindAllStringSubmatch(help, -1) {
		described = append(described, m[1])
	}
	if len(declared) != 8 || !slices.Equal(declared, described) {
		t.Errorf("parameters %q, described %q", declared, described)
	}
}

// TestEverythingIsUndone: whatever the script remembers to have changed, -Undo
// looks at.
func TestEverythingIsUndone(t *testing.T) {
	text := script(t)
	_, state, _ := strings.Cut(text, "function Get-EmptyState {")
	state, _, _ = strings.Cut(state, "\n}\n")
	_, undo, _ := strings.Cut(text, "# --- Undoing")
	undo, _, _ = strings.Cut(undo, "# --- The run")
	fields := regexp.MustCompile(`(?m)^        (\w+) +=`).FindAllStringSubmatch(state, -1)
	if len(fields) < 10 {
		t.Fatalf("only %q", fields)
	}
	for _, f := range fields {
		forPeople := f[1] == "Version" || f[1] == "RootSddlBefore"
		if !forPeople && !strings.Contains(undo, "$State."+f[1]) {
			t.Errorf("%s is not undone", f[1])
		}
	}
}

// TestRights pins the numbers that Windows gives the rights: permissions by
// index (ModifyPermissions of Win32_TSAccount), access masks by bit.
func TestRights(t *testing.T) {
	const genericRead, genericExecute = 0x80000000, 0x20000000
	mask := uint32(genericRead | genericExecute)
	for _, line := range []string{
		fmt.Sprintf("$ShellMask = %d\n", int32(mask)),
		"$Query, $Logoff, $Logon, $Reset, $Message, $Disconnect = 0, 2, 5, 6, 7, 9\n",
		"$allow = @($Query)\n    if (-not $NoEviction) { $allow = $Query, $Logoff, $Reset, $Message, $Disconnect }\n",
		"@{ PermissionMask = [uint32]$Logon; Allow = $false }",
	} {
		if !strings.Contains(script(t), line) {
			t.Errorf("no %q", line)
		}
	}
}

// TestSnippet: what the script prints for broker.yaml is a host.
func TestSnippet(t *testing.T) {
	_, snippet, _ := strings.Cut(script(t), "@\"\n")
	snippet, _, _ = strings.Cut(snippet, "\n\"@")
	dir := t.TempDir()
	for _, name := range []string{"winrm.password", "ca.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snippet = strings.NewReplacer(
		"$($env:COMPUTERNAME.ToLowerInvariant())", "ts1", "$($names[0])", "ts1.contoso.example", "$accountName", `CONTOSO\svc-rdpbroker`,
		"$(if ($NoEviction) { 'false' } else { 'true' })", "true", "/etc/rdpbroker", dir,
	).Replace(snippet)
	file := filepath.Join(dir, "broker.yaml")
	text := "listen: [{address: '127.0.0.1:0', farm: office}]\nfarms:\n  office:\n    hosts:\n" + snippet + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	w := cfg.Farms[0].Hosts[0].WinRM
	if w.User != `CONTOSO\svc-rdpbroker` || !w.TextEviction || w.URL != "https://ts1.contoso.example:5986/wsman" {
		t.Errorf("%+v", w)
	}
}
