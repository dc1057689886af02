package simhost

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// The tests here send envelopes by hand, so that they depend on no client's
// habits; clients have tests of their own.

var broker = Manager{Account: sessions.Account{Domain: "CONTOSO", User: "svc-broker"}, Password: "Pa$$w0rd"}

// raw is a client that knows nothing.
type raw struct {
	*testing.T
	url    string
	client *http.Client
	who    Manager
}

func newRaw(t *testing.T, h *runningHost) *raw {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &raw{T: t, url: "http://" + h.winrm + "/wsman", client: &http.Client{Transport: transport, Timeout: patience}, who: broker}
}

func (c *raw) post(body string) (status int, answer string) {
	c.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/soap+xml;charset=UTF-8")
	if c.who.Password != "" {
		req.SetBasicAuth(c.who.Account.String(), c.who.Password)
	}
	res, err := c.client.Do(req)
	if err != nil {
		c.Fatalf("post: %v", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.Fatalf("read answer: %v", err)
	}
	return res.StatusCode, string(b)
}

// ask sends a request for shell ("" for none) and parses the answer.
func (c *raw) ask(action, shell, options, body string) (status int, r *soapAnswer) {
	c.Helper()
	return c.askFor("PT5S", action, shell, options, body)
}

func (c *raw) askFor(timeout, action, shell, options, body string) (status int, r *soapAnswer) {
	c.Helper()
	if shell != "" {
		shell = `<w:SelectorSet><w:Selector Name="ShellId">` + shell + `</w:Selector></w:SelectorSet>`
	}
	status, text := c.post(fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?><env:Envelope xmlns:env="%s" xmlns:a="%s" xmlns:w="%s" xmlns:rsp="%s" xmlns:n="%s"><env:Header><a:To>%s</a:To><a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo><w:MaxEnvelopeSize mustUnderstand="true">153600</w:MaxEnvelopeSize><a:MessageID>uuid:1</a:MessageID><w:OperationTimeout>%s</w:OperationTimeout><w:ResourceURI mustUnderstand="true">%s</w:ResourceURI><a:Action mustUnderstand="true">%s</a:Action>%s<w:OptionSet>%s</w:OptionSet></env:Header><env:Body>%s</env:Body></env:Envelope>`,
		nsSoap, nsAddress, nsManage, nsShell, nsEnum, c.url, timeout, resourceCmd, action, shell, options, body))
	r = &soapAnswer{text: text}
	if err := xml.Unmarshal([]byte(text), r); err != nil {
		c.Fatalf("%s: status %d, answer %.300q: %v", action, status, text, err)
	}
	return status, r
}

// soapAnswer is what the tests read of an answer.
type soapAnswer struct {
	text   string
	Header struct{ RelatesTo string }
	Body   struct {
		Shell     struct{ ShellId, Owner, IdleTimeOut string }
		CommandId string `xml:"CommandResponse>CommandId"`
		Receive   struct {
			Streams []struct {
				Name string `xml:"Name,attr"`
				End  bool   `xml:"End,attr"`
				Data []byte `xml:",chardata"`
			} `xml:"Stream"`
			State struct {
				State    string `xml:"State,attr"`
				ExitCode *int
			} `xml:"CommandState"`
		} `xml:"ReceiveResponse"`
		Items []struct{ ShellId string } `xml:"PullResponse>Items>Shell"`
		Fault struct {
			Code struct {
				Value   string
				Subcode struct{ Value string }
			}
			Detail struct {
				Code uint32 `xml:"Code,attr"`
				Text string `xml:"Message"`
			} `xml:"Detail>WSManFault"`
		}
	}
}

const createBody = `<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>`

func (c *raw) create() string { return c.createWith("65001") }

func (c *raw) createWith(codePage string) string {
	c.Helper()
	status, r := c.ask(nsTransfer+"/Create", "", `<w:Option Name="WINRS_CODEPAGE">`+codePage+`</w:Option>`, createBody)
	if status != 200 || r.Body.Shell.ShellId == "" {
		c.Fatalf("Create: %d %s", status, r.text)
	}
	return r.Body.Shell.ShellId
}

func (c *raw) begin(shell, line string) string {
	c.Helper()
	status, r := c.ask(nsShell+"/Command", shell, `<w:Option Name="WINRS_SKIP_CMD_SHELL">FALSE</w:Option>`,
		`<rsp:CommandLine><rsp:Command>`+escape(line)+`</rsp:Command></rsp:CommandLine>`)
	if status != 200 || r.Body.CommandId == "" {
		c.Fatalf("Command %q: %d %s", line, status, r.text)
	}
	return r.Body.CommandId
}

func receiveBody(command string) string {
	return `<rsp:Receive><rsp:DesiredStream CommandId="` + command + `">stdout stderr</rsp:DesiredStream></rsp:Receive>`
}

// result is a command's output.
type result struct {
	stdout, stderr string
	exit           int
	receives       int
	elements       int
}

func (c *raw) run(line string) result {
	c.Helper()
	shell := c.create()
	out := c.collect(shell, c.begin(shell, line))
	c.ask(nsTransfer+"/Delete", shell, "", "")
	return out
}

func (c *raw) collect(shell, command string) (out result) {
	c.Helper()
	var streams = map[string]*bytes.Buffer{"stdout": {}, "stderr": {}}
	ended := map[string]bool{}
	for {
		out.receives++
		status, r := c.ask(nsShell+"/Receive", shell, "", receiveBody(command))
		if status != 200 {
			c.Fatalf("Receive: %d %s", status, r.text)
		}
		for _, s := range r.Body.Receive.Streams {
			ended[s.Name] = s.End
			if !s.End {
				out.elements++
			}
			streams[s.Name].Write(decode64(c.T, s.Data))
		}
		if strings.HasSuffix(r.Body.Receive.State.State, "/Done") {
			if r.Body.Receive.State.ExitCode == nil || !ended["stdout"] || !ended["stderr"] {
				c.Fatalf("the end lacks an exit code or the ends of streams: %s", r.text)
			}
			out.stdout, out.stderr, out.exit = streams["stdout"].String(), streams["stderr"].String(), *r.Body.Receive.State.ExitCode
			return out
		}
	}
}

func basicHost(t *testing.T, change func(*Config)) *runningHost {
	t.Helper()
	cfg := Config{Name: "essen", WinRM: WinRM{Managers: []Manager{broker}, Basic: true}}
	if change != nil {
		change(&cfg)
	}
	return start(t, cfg)
}

func TestWinRMLifeOfAShell(t *testing.T) {
	h := basicHost(t, nil)
	c := newRaw(t, h)
	shell := c.create()
	status, r := c.ask(nsEnum+"/Enumerate", "", "", `<n:Enumerate/>`)
	if status != 200 {
		t.Fatalf("Enumerate: %d %s", status, r.text)
	}
	if _, r = c.ask(nsEnum+"/Pull", "", "", `<n:Pull/>`); len(r.Body.Items) != 1 || r.Body.Items[0].ShellId != shell {
		t.Errorf("Pull: %s", r.text)
	}
	if out := c.collect(shell, c.begin(shell, "hostname")); out.stdout != "essen\r\n" || out.exit != 0 {
		t.Errorf("hostname: %+v", out)
	}
	if status, r = c.ask(nsTransfer+"/Delete", shell, "", ""); status != 200 || r.Header.RelatesTo != "uuid:1" {
		t.Errorf("Delete: %d %s", status, r.text)
	}
	if status, r = c.ask(nsShell+"/Command", shell, "", `<rsp:CommandLine><rsp:Command>quser</rsp:Command></rsp:CommandLine>`); status != 500 || r.Body.Fault.Detail.Code != faultNoSuchShell || r.Body.Fault.Code.Subcode.Value != "w:InvalidSelectors" {
		t.Errorf("Command in a deleted shell: %d %s", status, r.text)
	}
}

func TestWinRMRefusesShortIdleTimeOuts(t *testing.T) {
	c := newRaw(t, basicHost(t, nil))
	for text, want := range map[string]string{"PT59S": "", "180": "", "PT180S": "PT180.000S", "P1D": "PT7200.000S"} {
		status, r := c.ask(nsTransfer+"/Create", "", "", `<rsp:Shell><rsp:IdleTimeOut>`+text+`</rsp:IdleTimeOut></rsp:Shell>`)
		if want == "" && (status != 500 || r.Body.Fault.Detail.Code != faultSchema) {
			t.Errorf("IdleTimeOut %s: %d %s", text, status, r.text)
		}
		if want != "" && r.Body.Shell.IdleTimeOut != want {
			t.Errorf("IdleTimeOut %s became %s, want %s", text, r.Body.Shell.IdleTimeOut, want)
		}
	}
}

func TestWinRMReceiveWaits(t *testing.T) {
	h := basicHost(t, func(c *Config) { c.Options.Logoff = LogoffPlan{Takes: time.Hour} })
	if err := h.Model().Seed(Seed{Account: user("bob"), ID: 4}); err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, h)
	shell := c.create()
	command := c.begin(shell, "logoff 4")
	status, r := c.askFor("PT0.1S", nsShell+"/Receive", shell, "", receiveBody(command))
	if status != 500 || r.Body.Fault.Detail.Code != faultTimedOut || r.Body.Fault.Code.Subcode.Value != "w:TimedOut" {
		t.Fatalf("without output: %d %s", status, r.text)
	}
	waiting := make(chan *soapAnswer, 1)
	go func() {
		_, r := c.askFor("PT20S", nsShell+"/Receive", shell, "", receiveBody(command))
		waiting <- r
	}()
	c.ask(nsShell+"/Signal", shell, "", `<rsp:Signal CommandId="`+command+`"><rsp:Code>`+nsShell+`/signal/terminate</rsp:Code></rsp:Signal>`)
	if r := <-waiting; r.Body.Fault.Detail.Code != faultAborted && r.Body.Fault.Detail.Code != faultNoSuchShell {
		t.Errorf("a Receive whose command was terminated: %s", r.text)
	}
	if _, r := c.ask(nsShell+"/Receive", shell, "", receiveBody(command)); r.Body.Fault.Detail.Code != faultNoSuchShell {
		t.Errorf("Receive of a terminated command: %s", r.text)
	}
}

func TestWinRMControlC(t *testing.T) {
	h := basicHost(t, func(c *Config) { c.Options.Logoff = LogoffPlan{Sticks: true} })
	if err := h.Model().Seed(Seed{Account: user("bob"), ID: 4}); err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, h)
	shell := c.create()
	command := c.begin(shell, "logoff 4")
	c.ask(nsShell+"/Signal", shell, "", `<rsp:Signal CommandId="`+command+`"><rsp:Code>`+nsShell+`/signal/ctrl_c</rsp:Code></rsp:Signal>`)
	if out := c.collect(shell, command); out.exit != exitControlC {
		t.Errorf("after ctrl_c: %+v", out)
	}
}

func TestWinRMShellsIdleOut(t *testing.T) {
	clock := &manualClock{now: time.Now()}
	h, err := New(Config{Name: "essen", Clock: clock.Now, WinRM: WinRM{Managers: []Manager{broker}}})
	if err != nil {
		t.Fatal(err)
	}
	s := h.winrm // without a network: the clock is not for several goroutines
	who := &s.cfg.Managers[0]
	r := &request{options: map[string]string{}}
	if err := xml.Unmarshal([]byte(`<E><Header><ResourceURI>`+resourceCmd+`</ResourceURI></Header><Body><Shell/></Body></E>`), &r.envelope); err != nil {
		t.Fatal(err)
	}
	if _, _, f := s.create(r, &http.Request{}, who); f != nil {
		t.Fatal(f)
	}
	for _, step := range []struct {
		wait    time.Duration
		waiting int // Receives under way
		left    int
	}{{2*time.Hour - time.Second, 0, 1}, {time.Second, 1, 1}, {0, 0, 0}} {
		clock.advance(step.wait)
		for _, sh := range s.shells {
			sh.waiting = step.waiting
		}
		s.reap()
		if len(s.shells) != step.left {
			t.Errorf("%d shells are left", len(s.shells))
		}
	}
}

func TestWinRMQuotas(t *testing.T) {
	c := newRaw(t, basicHost(t, func(c *Config) { c.WinRM.Quotas = Quotas{ShellsPerUser: 2, OperationsPerUser: 3} }))
	a, b := c.create(), c.create()
	if _, r := c.ask(nsTransfer+"/Create", "", "", createBody); r.Body.Fault.Detail.Code != faultShellQuota {
		t.Errorf("third shell: %s", r.text)
	}
	for _, shell := range []string{a, a, b} {
		c.collect(shell, c.begin(shell, "hostname"))
	}
	if _, r := c.ask(nsShell+"/Command", b, "", `<rsp:CommandLine><rsp:Command>hostname</rsp:Command></rsp:CommandLine>`); r.Body.Fault.Detail.Code != faultOperationQuota {
		t.Errorf("fourth command: %s", r.text)
	}
	c.ask(nsTransfer+"/Delete", a, "", "")
	c.collect(b, c.begin(b, "hostname"))
}

func TestWinRMAuthentication(t *testing.T) {
	h := basicHost(t, func(c *Config) {
		c.WinRM.Managers = append(c.WinRM.Managers, Manager{Account: user("weak"), Password: "x", LowRights: true})
	})
	if err := h.Model().Seed(Seed{Account: user("boss"), ID: 4, Hidden: true}, Seed{Account: user("alice"), ID: 5}); err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, h)
	for _, wrong := range []Manager{{}, {Account: broker.Account, Password: "wrong"}, {Account: user("nobody"), Password: "x"}} {
		c.who = wrong
		if status, _ := c.post("<x/>"); status != 401 {
			t.Errorf("%v: status %d", wrong.Account, status)
		}
	}
	c.who = Manager{Account: user("weak"), Password: "x"}
	if out := c.run("quser"); strings.Contains(out.stdout, "boss") || !strings.Contains(out.stdout, "alice") {
		t.Errorf("an account without rights sees %s", out.stdout)
	}
	if out := c.run("logoff 5"); out.exit == 0 || !strings.Contains(out.stderr, "Access is denied.") || !has(h.Model(), 5) {
		t.Errorf("an account without rights logs off: %+v", out)
	}
	// Nobody reaches another's shell.
	shell := c.create()
	c.who = broker
	if _, r := c.ask(nsTransfer+"/Delete", shell, "", ""); r.Body.Fault.Detail.Code != faultNoSuchShell {
		t.Errorf("another's shell: %s", r.text)
	}
}

func TestWinRMCutsOutputAnywhere(t *testing.T) {
	for seed := range uint64(5) {
		h := basicHost(t, func(c *Config) { c.WinRM.Split = rand.New(rand.NewPCG(seed, 1)) })
		c := newRaw(t, h)
		line := "echo " + strings.Repeat("Zürich 会话 ", 40)
		out := c.run(line)
		if want := strings.TrimPrefix(line, "echo ") + "\r\n"; out.stdout != want {
			t.Errorf("seed %d: got %q", seed, out.stdout)
		}
		if out.elements < 3 {
			t.Errorf("seed %d: only %d pieces in %d answers", seed, out.elements, out.receives)
		}
	}
}

func TestWinRMFaults(t *testing.T) {
	h := basicHost(t, nil)
	c := newRaw(t, h)
	set := func(f Fault) { h.Model().Configure(func(o *Options) { o.Faults = []Fault{f} }) }
	for kind, code := range map[FaultKind]uint32{
		FaultShellVanishes: faultNoSuchShell, FaultShellQuota: faultShellQuota,
		FaultOperationQuota: faultOperationQuota, FaultTimedOut: faultTimedOut,
	} {
		shell := c.create()
		set(Fault{Kind: kind, On: ActionCommand, Skip: 1, Times: 1, Text: "Der Vorgang wurde abgebrochen."})
		c.begin(shell, "hostname") // skipped
		status, r := c.ask(nsShell+"/Command", shell, "", `<rsp:CommandLine><rsp:Command>hostname</rsp:Command></rsp:CommandLine>`)
		if d := r.Body.Fault.Detail; status != 500 || d.Code != code || d.Text != "Der Vorgang wurde abgebrochen." {
			t.Errorf("%s: %d %s", kind, status, r.text)
		}
		if kind != FaultShellVanishes { // it hit once
			c.begin(shell, "hostname")
		}
		c.ask(nsTransfer+"/Delete", shell, "", "")
	}
	identify := `<s:Envelope xmlns:s="` + nsSoap + `"><s:Header/><s:Body><wsmid:Identify xmlns:wsmid="` + nsIdentify + `"/></s:Body></s:Envelope>`
	for kind, want := range map[FaultKind]int{FaultEmpty500: 500, FaultUnauthorized: 401, FaultBadGateway: 502} {
		set(Fault{Kind: kind, Times: 1})
		status, body := c.post(identify)
		if status != want || strings.Contains(body, "Envelope") {
			t.Errorf("%s: %d %.100q", kind, status, body)
		}
	}
	set(Fault{Kind: FaultHugeBody, Times: 1, Size: 1 << 20})
	if _, body := c.post(identify); len(body) != 1<<20 {
		t.Errorf("huge body of %d bytes", len(body))
	}
	set(Fault{Kind: FaultSlowBody, Times: 1, Pause: 10 * time.Microsecond})
	if status, body := c.post(identify); status != 200 || !strings.Contains(body, "ProductVendor") {
		t.Errorf("slow body: %d %.100q", status, body)
	}
	for _, kind := range []FaultKind{FaultReset, FaultBlackHole} {
		set(Fault{Kind: kind, Times: 1})
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(identify))
		req.SetBasicAuth(broker.Account.String(), broker.Password)
		_, err := c.client.Do(req)
		if timedOut := ctx.Err() != nil; err == nil || timedOut != (kind == FaultBlackHole) {
			t.Errorf("%s: %v", kind, err)
		}
		cancel()
	}
}

func TestWinRMRejectsWhatIsNoRequest(t *testing.T) {
	c := newRaw(t, basicHost(t, nil))
	for _, body := range []string{"<", "<x/>", "hello", strings.Repeat("<a>", 1000)} {
		if status, answer := c.post(body); status != 500 || !strings.Contains(answer, "2150858817") {
			t.Errorf("%.20q: %d %.200q", body, status, answer)
		}
	}
	if status, _ := c.post(strings.Repeat(" ", maxEnvelope+1)); status != 413 {
		t.Errorf("a huge request: %d", status)
	}
}
