package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rdpbroker": main})
}

// TestScripts runs the scripts in testdata/script, in which rdpbroker is this
// package, built as the test is. With UPDATE=1 in the environment the texts that
// a script compares with (cmp stdout FILE) are written anew, to be looked at in the
// diff. Commands beside those of testscript:
//
//	exits N COMMAND ...      COMMAND must end with the exit code N
//	until PATTERN COMMAND ...runs COMMAND again and again until it succeeds and its
//	                         output matches
//	take NAME PATTERN FILE   sets the variable NAME to what the group in PATTERN matches
//	closedport NAME          sets NAME to a loopback address where nobody listens
//	yamlblocks FILE PREFIX   writes the yaml blocks of a Markdown file to PREFIX1.yaml, ...
func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			// Nothing of this machine is on the path: no rdpprobe above all.
			e.Setenv("PATH", filepath.SplitList(e.Getenv("PATH"))[0])
			e.Setenv("REPOSITORY", root)
			// Under the race detector every program would sleep for a second at its end.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "until": until, "take": take, "closedport": closedPort, "yamlblocks": yamlBlocks,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND ...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	stdout, stderr, code := runIn(ts, args[1:])
	_, _ = ts.Stdout().Write(stdout)
	_, _ = ts.Stderr().Write(stderr)
	if code != want {
		ts.Fatalf("%q ended with the exit code %d, want %d", args[1:], code, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND ...")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		stdout, stderr, code := runIn(ts, args[1:])
		if code == 0 && pattern.Match(stdout) {
			return
		}
		if time.Now().After(late) {
			ts.Fatalf("%q still ends with %d:\n%s%s", args[1:], code, stdout, stderr)
		}
	}
}

// runIn runs a command in the script's folder and environment.
func runIn(ts *testscript.TestScript, args []string) (stdout, stderr []byte, code int) {
	path := filepath.Join(ts.Getenv("PATH"), args[0])
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GORACE"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	return out.Bytes(), errs.Bytes(), cmd.ProcessState.ExitCode()
}

func take(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: take NAME PATTERN FILE")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	found := pattern.FindStringSubmatch(ts.ReadFile(args[2]))
	if len(found) != 2 {
		ts.Fatalf("%s does not match %q with one group", args[2], args[1])
	}
	ts.Setenv(args[0], found[1])
}

func closedPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: closedport NAME")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Check(ln.Close())
	ts.Setenv(args[0], ln.Addr().String())
}

var yamlBlock = regexp.MustCompile("(?ms)^```ya?ml\n(.*?)^```$")

func yamlBlocks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: yamlblocks FILE PREFIX")
	}
	blocks := yamlBlock.FindAllStringSubmatch(ts.ReadFile(args[0]), -1)
	if len(blocks) == 0 {
		ts.Fatalf("%s has no yaml block", args[0])
	}
	for i, b := range blocks {
		ts.Check(os.WriteFile(ts.MkAbs(args[1]+strconv.Itoa(i+1)+".yaml"), []byte(b[1]), 0o600))
	}
}

// TestEveryCommandHasAScript keeps a new command from going untested.
func TestEveryCommandHasAScript(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	var missing []string
	for _, c := range rootCommand().Commands() {
		if !bytes.Contains(all, []byte("rdpbroker "+c.Name())) {
			missing = append(missing, c.Name())
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("no script runs %v", missing)
	}
}
