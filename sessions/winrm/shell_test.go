package winrm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// says makes an endpoint whose every command leaves res behind.
func says(res fakeResult) *fakeHost {
	return &fakeHost{execute: func(string) *fakeResult {
		r := res
		return &r
	}}
}

func TestRunTellsStreamsAndExitCodeApart(t *testing.T) {
	f := says(fakeResult{stdout: "Benutzer: Jörg 断开\r\n", stderr: "Fehler [5]: nein\r\n", code: "9009"}).start(t)
	out, err := f.driver().client.run(t.Context(), "quser.exe")
	if err != nil {
		t.Fatal(err)
	}
	want := output{stdout: "Benutzer: Jörg 断开\r\n", stderr: "Fehler [5]: nein\r\n", exitCode: 9009}
	if *out != want {
		t.Errorf("got %+v, want %+v", *out, want)
	}
	if got := strings.Join(f.actions, " "); got != "Create Command Receive Delete" {
		t.Errorf("messages: %s", got)
	}
	if f.openShells() != 0 {
		t.Error("the shell is still there")
	}
}

// Output is cut anywhere, within characters too, over elements and answers.
func TestRunJoinsOutputCutAnywhere(t *testing.T) {
	var f fakeHost
	var text, errText string
	f.execute = func(string) *fakeResult { return &fakeResult{stdout: text, stderr: errText, code: "0"} }
	f.start(t)
	d := f.driver()
	rapid.Check(t, func(rt *rapid.T) {
		f.mu.Lock()
		f.rng = rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		text = rapid.StringMatching(`[断开äЖa-z \r\n]{0,200}`).Draw(rt, "stdout")
		errText = rapid.StringMatching(`[é断a-z\n]{0,50}`).Draw(rt, "stderr")
		f.mu.Unlock()
		out, err := d.client.run(t.Context(), "quser.exe")
		if err != nil {
			rt.Fatal(err)
		}
		if out.stdout != text || out.stderr != errText {
			rt.Fatalf("got %q and %q, want %q and %q", out.stdout, out.stderr, text, errText)
		}
	})
}

func TestRequestOptions(t *testing.T) {
	seen := map[string]map[string]string{}
	f := says(fakeResult{code: "0"})
	f.intercept = func(_ http.ResponseWriter, _ *http.Request, action string, _ int) bool {
		seen[action] = f.lastHeader
		return false
	}
	f.start(t)
	if _, err := f.driver().client.run(t.Context(), "quser.exe"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ action, key, want string }{
		{"Create", "IdleTimeOut", "PT180.700S"},
		{"Create", "WINRS_NOPROFILE", "TRUE"},
		{"Create", "WINRS_CODEPAGE", "65001"},
		{"Command", "WINRS_CONSOLEMODE_STDIN", "FALSE"},
		{"Command", "WINRS_SKIP_CMD_SHELL", "FALSE"},
	} {
		if got := seen[tt.action][tt.key]; got != tt.want {
			t.Errorf("%s: %s is %q, want %q", tt.action, tt.key, got, tt.want)
		}
	}
}

// A command that is silent for longer than OperationTimeout is asked again.
func TestOperationTimeoutReceivesAgain(t *testing.T) {
	f := says(fakeResult{stdout: "late", code: "0", hold: 2}).start(t)
	out, err := f.driver().client.run(t.Context(), "quser.exe")
	if err != nil || out.stdout != "late" {
		t.Fatalf("%+v, %v", out, err)
	}
	if n := f.count("Receive"); n != 3 {
		t.Errorf("%d Receives, want 3", n)
	}
}

// Pitfall: a fault in a body with status 500 taken for success.
func TestFaultsAreErrors(t *testing.T) {
	for _, action := range []string{"Create", "Command", "Receive"} {
		for _, code := range []uint32{FaultShellGone, FaultTooManyShells, FaultTooManyOperations, 5} {
			t.Run(fmt.Sprint(action, code), func(t *testing.T) {
				f := says(fakeResult{stdout: "x", code: "0"})
				f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, _ int) bool {
					if a == action {
						writeFault(w, code, "w:Some", strings.Repeat("langer Text ", 1000))
					}
					return a == action
				}
				f.start(t)
				_, err := f.driver().client.run(t.Context(), "quser.exe")
				var fault *Fault
				if !errors.As(err, &fault) || fault.Code != code || fault.Subcode != "w:Some" || len(fault.Reason) > maxReason {
					t.Errorf("got %v (%+v)", err, fault)
				}
				if f.openShells() != 0 {
					t.Error("the shell was not deleted")
				}
			})
		}
	}
}

// A fault with status 200, an answer without status 200, and a failing Delete.
func TestOddAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		action string
		answer func(w http.ResponseWriter)
		want   string
		status int
	}{
		{"fault with 200", "Create", func(w http.ResponseWriter) {
			writeSOAP(w, 200, "fault", `<s:Fault><s:Code><s:Subcode><s:Value>w:X</s:Value></s:Subcode></s:Code><s:Reason><s:Text>no</s:Text></s:Reason></s:Fault>`)
		}, "WS-Management fault 0 (w:X)", 0},
		{"success with 500", "Create", func(w http.ResponseWriter) {
			writeSOAP(w, 500, "CreateResponse", `<rsp:Shell><rsp:ShellId>A-1</rsp:ShellId></rsp:Shell>`)
		}, "no fault", 500},
		{"empty 500", "Create", func(w http.ResponseWriter) { w.WriteHeader(500) }, "AllowUnencrypted", 500},
		{"502 of a proxy", "Receive", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(502)
			io.WriteString(w, "<html><h1>Bad gateway</h1></html>")
		}, "not a WS-Management answer", 502},
		{"HTML with 200", "Command", func(w http.ResponseWriter) { io.WriteString(w, "<html>log in here</html>") }, "not a WS-Management answer", 200},
		{"broken XML", "Command", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", soapType)
			io.WriteString(w, "<s:Envelope><s:Body>")
		}, "not a SOAP message", 200},
		{"a hostile shell ID", "Create", func(w http.ResponseWriter) {
			writeSOAP(w, 200, "CreateResponse", `<rsp:Shell><rsp:ShellId>x&lt;/w:Selector&gt;</rsp:ShellId></rsp:Shell>`)
		}, "without a valid ID", 0},
		{"no command ID", "Command", func(w http.ResponseWriter) { writeSOAP(w, 200, "CommandResponse", ``) }, "without a valid ID", 0},
		{"no output", "Receive", func(w http.ResponseWriter) { writeSOAP(w, 200, "ReceiveResponse", ``) }, "no output and no state", 0},
		{"a redirect", "Create", func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://192.0.2.1/wsman")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "HTTP status 307", 307},
		{"a huge body", "Receive", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", soapType)
			for range 64 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, errTooLarge.Error(), 0},
		{"huge headers", "Receive", func(w http.ResponseWriter) {
			for i := range 200 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 10000))
			}
		}, errTooLarge.Error(), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := says(fakeResult{stdout: "x", code: "0"})
			f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, _ int) bool {
				if a == tt.action {
					tt.answer(w)
				}
				return a == tt.action
			}
			f.start(t)
			_, err := f.driver().client.run(t.Context(), "quser.exe")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			var status *StatusError
			if errors.As(err, &status) != (tt.status != 0) || (status != nil && status.Status != tt.status) {
				t.Errorf("got %+v, want status %d", status, tt.status)
			}
			if f.openShells() != 0 {
				t.Error("the shell was not deleted")
			}
		})
	}
}

func TestOutputIsReadStrictly(t *testing.T) {
	const id = "C-1"
	const done = `<rsp:CommandState CommandId="C-1" State="http://x/CommandState/Done"><rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState>`
	for _, tt := range []struct{ name, body, want string }{
		{"no exit code", `<rsp:CommandState CommandId="C-1" State="http://x/CommandState/Done"></rsp:CommandState>`, "without an exit code"},
		{"not base64", `<rsp:Stream Name="stdout" CommandId="C-1">###</rsp:Stream>` + done, "not base64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := says(fakeResult{code: "0"})
			f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, _ int) bool {
				switch a {
				case "Command":
					writeSOAP(w, 200, "CommandResponse", `<rsp:CommandResponse><rsp:CommandId>`+id+`</rsp:CommandId></rsp:CommandResponse>`)
				case "Receive":
					writeSOAP(w, 200, "ReceiveResponse", `<rsp:ReceiveResponse>`+tt.body+`</rsp:ReceiveResponse>`)
				}
				return a == "Command" || a == "Receive"
			}
			f.start(t)
			if _, err := f.driver().client.run(t.Context(), "quser.exe"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Output of another command is not ours, and endless output is not kept.
func TestOutputOfOthersAndEndlessOutput(t *testing.T) {
	f := says(fakeResult{code: "0"})
	chunk := strings.Repeat("QUFB", 30000)
	f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, nth int) bool {
		switch a {
		case "Command":
			writeSOAP(w, 200, "CommandResponse", `<rsp:CommandResponse><rsp:CommandId>C-1</rsp:CommandId></rsp:CommandResponse>`)
		case "Receive":
			state := `<rsp:CommandState CommandId="C-2" State="http://x/CommandState/Done"><rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState>`
			writeSOAP(w, 200, "ReceiveResponse", `<rsp:ReceiveResponse><rsp:Stream Name="stdout" CommandId="C-2">AAAA</rsp:Stream>`+
				`<rsp:Stream Name="stdout" CommandId="c-1">`+chunk+`</rsp:Stream>`+state+`</rsp:ReceiveResponse>`)
		}
		return a == "Command" || a == "Receive"
	}
	f.start(t)
	_, err := f.driver().client.run(t.Context(), "quser.exe")
	if !errors.Is(err, errTooLarge) {
		t.Errorf("got %v", err)
	}
	if n := f.count("Receive"); n != maxStdout/90000+1 {
		t.Errorf("stopped after %d answers", n)
	}
}

// Pitfall: Receive on a dead shell in an endless loop.
func TestDeadShellEndsAtOnce(t *testing.T) {
	f := says(fakeResult{code: "0", forever: true})
	f.intercept = func(_ http.ResponseWriter, _ *http.Request, a string, nth int) bool {
		if a == "Receive" && nth == 2 {
			f.mu.Lock()
			clear(f.shells)
			f.mu.Unlock()
		}
		return false
	}
	f.start(t)
	_, err := f.driver().client.run(t.Context(), "quser.exe")
	var fault *Fault
	if !errors.As(err, &fault) || fault.Code != FaultShellGone {
		t.Errorf("got %v", err)
	}
	if n := f.count("Receive"); n != 2 {
		t.Errorf("%d Receives", n)
	}
}

// Pitfall: a host that answers Receive at once and empty is not asked thousands
// of times a second; the command ends by its own timeout.
func TestNoBusyLoop(t *testing.T) {
	f := says(fakeResult{code: "0", forever: true}).start(t)
	d := f.driver(func(c *Config) { c.Timeout = time.Second })
	_, err := d.client.run(t.Context(), "quser.exe")
	if !errors.Is(err, errTimeout) {
		t.Errorf("got %v, want %v", err, errTimeout)
	}
	if n := f.count("Receive"); n > 10 {
		t.Errorf("%d Receives in a second", n)
	}
	if f.openShells() != 0 {
		t.Error("the shell was not deleted")
	}
}

// blackHole answers no message of an action, and tells of the first.
func blackHole(action string) (f *fakeHost, reached chan struct{}) {
	f, reached = says(fakeResult{code: "0"}), make(chan struct{}, 100)
	f.intercept = func(_ http.ResponseWriter, r *http.Request, a string, _ int) bool {
		if a != action {
			return false
		}
		reached <- struct{}{}
		<-r.Context().Done()
		return true
	}
	return f, reached
}

// Pitfall: a timeout of ours retried for ever. It is an error, once.
func TestClientTimeoutIsAnError(t *testing.T) {
	for _, action := range []string{"Create", "Command", "Receive"} {
		t.Run(action, func(t *testing.T) {
			f, _ := blackHole(action)
			f.start(t)
			d := f.driver()
			d.client.wait = 200 * time.Millisecond
			_, err := d.client.run(t.Context(), "quser.exe")
			if !errors.Is(err, errNoAnswer) {
				t.Errorf("got %v, want %v", err, errNoAnswer)
			}
			if n := f.count(action); n != 1 {
				t.Errorf("asked %d times", n)
			}
			if f.openShells() != 0 {
				t.Error("the shell was not deleted")
			}
		})
	}
}

// Pitfall: a cancelled context ends the request in flight, is an error, and the
// shell is deleted all the same.
func TestCancelEndsTheRequestAtOnce(t *testing.T) {
	for _, action := range []string{"Create", "Command", "Receive"} {
		t.Run(action, func(t *testing.T) {
			f, reached := blackHole(action)
			f.start(t)
			d := f.driver(func(c *Config) { c.Timeout = time.Minute })
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			if _, err := d.client.run(ctx, "quser.exe"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if f.openShells() != 0 {
				t.Error("the shell was not deleted")
			}
		})
	}
}

// A shell that cannot be deleted does not spoil what was read.
func TestFailingDeleteIsNoError(t *testing.T) {
	f := says(fakeResult{stdout: "x", code: "0"})
	f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, _ int) bool {
		if a == "Delete" {
			writeFault(w, FaultShellGone, "w:InvalidSelectors", "gone")
		}
		return a == "Delete"
	}
	f.start(t)
	if out, err := f.driver().client.run(t.Context(), "quser.exe"); err != nil || out.stdout != "x" {
		t.Errorf("%+v, %v", out, err)
	}
}

// A connection that the host has closed meanwhile costs no reading, but what
// may have been done is not done twice.
func TestClosedIdleConnection(t *testing.T) {
	f := says(fakeResult{stdout: "x", code: "0"}).start(t)
	d := f.driver()
	for i := range 3 {
		if _, err := d.client.run(t.Context(), "quser.exe"); err != nil {
			t.Fatalf("run %d: %v", i, err)
		}
		f.srv.CloseClientConnections()
	}
	if n := f.count("Create"); n != 3 {
		t.Errorf("%d Creates", n)
	}

	f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, _ int) bool {
		if a != "Command" {
			return false
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		c.Close()
		return true
	}
	if _, err := d.client.run(t.Context(), "logoff.exe 3 /V"); err == nil {
		t.Error("no error")
	}
	if n := f.count("Command"); n != 3+1 {
		t.Errorf("the command was sent %d times", n-3)
	}
}
