package winrm

import (
	"bytes"
	"encoding/xml"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordedAnswers(t *testing.T) {
	e, err := readEnvelope(200, soapType, recorded(t, "create-response.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := e.shellID(); err != nil || id != "849551A1-3FC0-4B45-8C37-7B0E0C0B4C1A" {
		t.Errorf("shell %q, %v", id, err)
	}

	e, err = readEnvelope(200, soapType, recorded(t, "receive-response.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	done, code, err := e.output("D6441B9D-7F5C-44DD-9B3A-9E4A2F1C6A11", &stdout, &stderr)
	if err != nil || !done || code != 0 || stdout.String() != "hi\n" || stderr.Len() > 0 {
		t.Errorf("done %v, code %d, %q, %q, %v", done, code, stdout.String(), stderr.String(), err)
	}

	_, err = readEnvelope(500, soapType, recorded(t, "timedout-fault.xml"))
	var fault *Fault
	if !errors.As(err, &fault) || fault.Code != FaultTimedOut || fault.Subcode != "w:TimedOut" || !strings.HasPrefix(fault.Reason, "The WS-Management service cannot complete") {
		t.Errorf("got %v", err)
	}
}

// Requests are XML and name what they are about.
func TestMessages(t *testing.T) {
	const url, shell, command = "https://rds1:5986/wsman", "S-1", "C-1"
	for name, m := range map[string]string{
		"Create":  createMessage(url, nil, time.Second),
		"Command": commandMessage(url, shell, "logoff.exe 3 /V", time.Second),
		"Receive": receiveMessage(url, shell, command, 1500*time.Millisecond),
		"Delete":  deleteMessage(url, shell, time.Second),
	} {
		var req struct {
			Header struct {
				To, Action, ResourceURI, OperationTimeout, MessageID string
				MaxEnvelopeSize                                      int
			}
		}
		if err := xml.Unmarshal([]byte(m), &req); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, m)
		}
		h := req.Header
		if h.To != url || !strings.HasSuffix(h.Action, "/"+name) || h.ResourceURI != "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd" ||
			h.MaxEnvelopeSize != maxEnvelope || len(h.MessageID) != len("uuid:")+36 || !strings.HasPrefix(h.OperationTimeout, "PT1.") {
			t.Errorf("%s: %+v", name, h)
		}
		if (name != "Create") != strings.Contains(m, `<w:Selector Name="ShellId">S-1</w:Selector>`) {
			t.Errorf("%s: shell selector\n%s", name, m)
		}
	}
	if m := commandMessage(url, shell, "logoff.exe 3 /V", time.Second); !strings.Contains(m, "<rsp:Command>logoff.exe 3 /V</rsp:Command>") {
		t.Errorf("command line\n%s", m)
	}
	if m := receiveMessage(url, shell, command, time.Second); !strings.Contains(m, `<rsp:DesiredStream CommandId="C-1">stdout stderr</rsp:DesiredStream>`) {
		t.Errorf("desired streams\n%s", m)
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, name := range []string{"create-response.xml", "receive-response.xml", "timedout-fault.xml"} {
		f.Add(200, recorded(f, name))
		f.Add(500, recorded(f, name))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e, err := readEnvelope(status, soapType, body)
		if err == nil && status != 200 {
			t.Fatalf("status %d is success", status)
		}
		var fault *Fault
		if errors.As(err, &fault) && len(fault.Error()) > 10*maxReason {
			t.Fatalf("an error of %d bytes", len(fault.Error()))
		}
		if err != nil {
			return
		}
		if id, err := e.shellID(); err == nil && strings.ContainsAny(id, `<>&"' `) {
			t.Fatalf("shell ID %q", id)
		}
		var stdout, stderr bytes.Buffer
		e.output("D6441B9D-7F5C-44DD-9B3A-9E4A2F1C6A11", &stdout, &stderr)
	})
}
