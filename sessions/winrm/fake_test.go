package winrm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	fakeDomain   = "CONTOSO"
	fakeUser     = "svc-broker"
	fakePassword = "correct horse"
)

// fakeHost is a WinRM endpoint for the tests. Its knobs are set before start.
type fakeHost struct {
	t   *testing.T
	srv *httptest.Server
	rng *rand.Rand // cuts output; nil leaves it whole

	plain    bool                             // HTTP
	schemes  []string                         // offered in a 401 without a token; default Negotiate
	flags    uint32                           // of NTLM challenges
	password string                           // that is accepted
	basic    bool                             // accepts Basic
	execute  func(command string) *fakeResult // runs a command; nil answers "not found"
	// intercept answers a message itself and returns true, or leaves it.
	intercept func(w http.ResponseWriter, r *http.Request, action string, nth int) bool

	mu         sync.Mutex
	shells     map[string]*fakeShell
	actions    []string       // in order
	counts     map[string]int // by action
	hellos     int            // NTLM handshakes begun
	refusals   int            // of passwords
	leaked     []string       // bodies that came on connections not authenticated
	basicSeen  int            // Authorization: Basic
	lastHeader map[string]string
	dropAuth   bool // the next message finds its connection logged out
}

// fakeResult is what a command does. hold keeps it running for so many Receives,
// which are answered with timeouts.
type fakeResult struct {
	stdout, stderr string
	code           string
	hold           int
	forever        bool
}

type fakeShell struct {
	commands map[string]*fakeCommand
	nextCut  int
}

type fakeCommand struct {
	pieces []string // Stream elements, not yet sent
	res    *fakeResult
}

// fakeConn is what the endpoint knows of a connection.
type fakeConn struct {
	ntlm  *ntlmServer
	authd bool
	seal  *hostSeal
}

type fakeConnKey struct{}

func (f *fakeHost) start(t *testing.T) *fakeHost {
	t.Helper()
	f.t = t
	f.shells, f.counts = map[string]*fakeShell{}, map[string]int{}
	if f.flags == 0 {
		f.flags = challengeFlags
	}
	if f.schemes == nil {
		f.schemes = []string{"Negotiate", "Kerberos"}
	}
	if f.password == "" {
		f.password = fakePassword
	}
	f.srv = httptest.NewUnstartedServer(f)
	f.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, fakeConnKey{}, &fakeConn{})
	}
	if f.plain {
		f.srv.Start()
	} else {
		f.srv.StartTLS()
	}
	t.Cleanup(f.srv.Close)
	return f
}

// config reaches f.
func (f *fakeHost) config() Config {
	c := Config{
		Endpoint: f.srv.Listener.Addr().String(), PlainHTTP: f.plain,
		User:     fakeDomain + `\` + fakeUser,
		Password: func() (string, error) { return fakePassword, nil },
		Timeout:  5 * time.Second, Poll: time.Hour,
	}
	if !f.plain {
		c.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.srv.Certificate().Raw})
	}
	return c
}

// driver is a driver of f, closed at the end of the test.
func (f *fakeHost) driver(change ...func(*Config)) *Driver {
	f.t.Helper()
	cfg := f.config()
	for _, c := range change {
		c(&cfg)
	}
	d, err := New(cfg, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { d.Close() })
	return d
}

func (f *fakeHost) count(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[action]
}

func (f *fakeHost) openShells() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.shells)
}

func (f *fakeHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	cn := r.Context().Value(fakeConnKey{}).(*fakeConn)
	if !f.authenticate(w, r, cn, body) {
		return
	}
	if cn.seal != nil {
		if body, err = cn.seal.open(body); err != nil {
			f.t.Errorf("open message: %v", err)
		}
		sealed := &sealingWriter{ResponseWriter: w, seal: cn.seal}
		defer sealed.finish()
		w = sealed
	}
	f.answer(w, r, body)
}

// sealingWriter seals a body when it is complete.
type sealingWriter struct {
	http.ResponseWriter
	seal   *hostSeal
	status int
	buf    bytes.Buffer
}

func (s *sealingWriter) WriteHeader(status int)      { s.status = status }
func (s *sealingWriter) Write(b []byte) (int, error) { return s.buf.Write(b) }
func (s *sealingWriter) finish() {
	s.Header().Set("Content-Type", `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`)
	if s.status != 0 {
		s.ResponseWriter.WriteHeader(s.status)
	}
	s.ResponseWriter.Write(s.seal.close(s.buf.Bytes()))
}

// authenticate is true if the message that r carries may be read.
func (f *fakeHost) authenticate(w http.ResponseWriter, r *http.Request, cn *fakeConn, body []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if len(body) > 0 && !cn.authd && scheme != "Basic" {
		f.leaked = append(f.leaked, string(body))
	}
	switch scheme {
	case "Basic":
		f.basicSeen++
		user, pw, _ := r.BasicAuth()
		if f.basic && user == fakeDomain+`\`+fakeUser && pw == f.password {
			return true
		}
		f.refusals++
	case "Negotiate":
		if !strings.Contains(strings.Join(f.schemes, " "), "Negotiate") {
			break
		}
		token, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			f.t.Errorf("token: %v", err)
			return false
		}
		if cn.ntlm == nil {
			f.hellos++
			cn.ntlm = newNTLMServer(token, f.flags)
			w.Header().Set("WWW-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(cn.ntlm.challenge))
			w.WriteHeader(http.StatusUnauthorized)
			return false
		}
		var bindings []byte
		if !f.plain {
			sum := sha256.Sum256(f.srv.Certificate().Raw)
			bindings = bindingsOf(append([]byte("tls-server-end-point:"), sum[:]...))
		}
		key, err := cn.ntlm.verify(token, fakeDomain, fakeUser, f.password, bindings)
		if err != nil {
			f.refusals++
			break
		}
		cn.authd = true
		if f.plain {
			cn.seal = newHostSeal(key)
		}
		if len(body) == 0 {
			w.WriteHeader(http.StatusOK)
			return false
		}
		return true
	case "":
		if cn.authd && !f.dropAuth {
			return true
		}
		f.dropAuth = false
	}
	for _, s := range f.schemes {
		w.Header().Add("WWW-Authenticate", s)
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

// fakeRequest is what the endpoint reads of a message.
type fakeRequest struct {
	Header struct {
		Action   string
		Selector string `xml:"SelectorSet>Selector"`
		Options  []struct {
			Name  string `xml:"Name,attr"`
			Value string `xml:",chardata"`
		} `xml:"OptionSet>Option"`
	}
	Body struct {
		Command string `xml:"CommandLine>Command"`
		Desired struct {
			CommandID string `xml:"CommandId,attr"`
		} `xml:"Receive>DesiredStream"`
		IdleTimeOut string `xml:"Shell>IdleTimeOut"`
	}
}

func (f *fakeHost) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	var req fakeRequest
	if err := xml.Unmarshal(body, &req); err != nil {
		f.t.Errorf("message: %v\n%s", err, body)
		return
	}
	action := req.Header.Action[strings.LastIndexByte(req.Header.Action, '/')+1:]
	f.mu.Lock()
	f.counts[action]++
	nth := f.counts[action]
	f.actions = append(f.actions, action)
	f.lastHeader = map[string]string{"IdleTimeOut": req.Body.IdleTimeOut}
	for _, o := range req.Header.Options {
		f.lastHeader[o.Name] = o.Value
	}
	f.mu.Unlock()
	if f.intercept != nil && f.intercept(w, r, action, nth) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	sh := f.shells[req.Header.Selector]
	if action != "Create" && sh == nil {
		writeFault(w, FaultShellGone, "w:InvalidSelectors", "Der Vorgang ist fehlgeschlagen: Shell nicht gefunden.")
		return
	}
	switch action {
	case "Create":
		id := newUUID()
		f.shells[id] = &fakeShell{commands: map[string]*fakeCommand{}}
		writeSOAP(w, http.StatusOK, "CreateResponse", `<x:ResourceCreated><a:Address>http://x/wsman</a:Address><a:ReferenceParameters>`+
			`<w:SelectorSet><w:Selector Name="ShellId">`+id+`</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>`+
			`<rsp:Shell><rsp:ShellId>`+id+`</rsp:ShellId><rsp:Owner>vagrant</rsp:Owner></rsp:Shell>`)
	case "Command":
		id := newUUID()
		sh.commands[id] = f.command(req.Body.Command)
		writeSOAP(w, http.StatusOK, "CommandResponse", `<rsp:CommandResponse><rsp:CommandId>`+id+`</rsp:CommandId></rsp:CommandResponse>`)
	case "Receive":
		f.receive(w, req.Body.Desired.CommandID, sh.commands[req.Body.Desired.CommandID])
	case "Delete":
		delete(f.shells, req.Header.Selector)
		writeSOAP(w, http.StatusOK, "DeleteResponse", "")
	default:
		f.t.Errorf("unexpected action %q", req.Header.Action)
	}
}

// command cuts the output of a command into Stream elements, at any byte.
func (f *fakeHost) command(line string) *fakeCommand {
	res := &fakeResult{stderr: "'" + line + "' is not recognized", code: "9009"}
	if f.execute != nil {
		if r := f.execute(line); r != nil {
			res = r
		}
	}
	c := &fakeCommand{res: res}
	left := map[string]string{"stdout": res.stdout, "stderr": res.stderr}
	for left["stdout"] != "" || left["stderr"] != "" {
		name := "stdout"
		if left[name] == "" || (f.rng != nil && left["stderr"] != "" && f.rng.IntN(2) == 0) {
			name = "stderr"
		}
		n := len(left[name])
		if f.rng != nil {
			n = 1 + f.rng.IntN(min(n, 40))
		}
		c.pieces = append(c.pieces, name+" "+left[name][:n])
		left[name] = left[name][n:]
	}
	return c
}

func (f *fakeHost) receive(w http.ResponseWriter, id string, c *fakeCommand) {
	if c == nil {
		writeFault(w, FaultShellGone, "w:InvalidSelectors", "no such command")
		return
	}
	if c.res.hold > 0 || c.res.forever {
		c.res.hold--
		writeFault(w, FaultTimedOut, "w:TimedOut", "Der Vorgang kann nicht innerhalb der Zeit abgeschlossen werden.")
		return
	}
	n := len(c.pieces)
	if f.rng != nil && n > 0 {
		n = 1 + f.rng.IntN(n)
	}
	var b strings.Builder
	for _, p := range c.pieces[:n] {
		name, data, _ := strings.Cut(p, " ")
		fmt.Fprintf(&b, `<rsp:Stream Name="%s" CommandId="%s">%s</rsp:Stream>`, name, id, base64.StdEncoding.EncodeToString([]byte(data)))
	}
	c.pieces = c.pieces[n:]
	if len(c.pieces) > 0 {
		fmt.Fprintf(&b, `<rsp:CommandState CommandId="%s" State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Running"></rsp:CommandState>`, id)
	} else {
		fmt.Fprintf(&b, `<rsp:Stream Name="stdout" CommandId="%[1]s" End="true"></rsp:Stream><rsp:Stream Name="stderr" CommandId="%[1]s" End="true"></rsp:Stream>`+
			`<rsp:CommandState CommandId="%[1]s" State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done">`+
			`<rsp:ExitCode>%[2]s</rsp:ExitCode></rsp:CommandState>`, id, c.res.code)
	}
	writeSOAP(w, http.StatusOK, "ReceiveResponse", `<rsp:ReceiveResponse>`+b.String()+`</rsp:ReceiveResponse>`)
}

func writeSOAP(w http.ResponseWriter, status int, action, body string) {
	w.Header().Set("Content-Type", "application/soap+xml;charset=UTF-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd">`+
		`<s:Header><a:Action>%s</a:Action></s:Header><s:Body>%s</s:Body></s:Envelope>`, action, body)
}

func writeFault(w http.ResponseWriter, code uint32, subcode, text string) {
	writeSOAP(w, http.StatusInternalServerError, "fault", fmt.Sprintf(
		`<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>%s</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">%s</s:Text></s:Reason>`+
			`<s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="%d" Machine="192.168.56.11"><f:Message>%s</f:Message></f:WSManFault></s:Detail></s:Fault>`,
		subcode, text, code, text))
}
