package winrm

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// envelope is an answer of the host, as far as we read it. Elements are taken by
// their local names: prefixes differ by Windows version.
type envelope struct {
	Body struct {
		Fault *struct {
			Subcode string `xml:"Code>Subcode>Value"`
			Text    string `xml:"Reason>Text"`
			Detail  struct {
				WSMan struct {
					Code string `xml:"Code,attr"`
				} `xml:"WSManFault"`
			} `xml:"Detail"`
		} `xml:"Fault"`
		ShellID   string `xml:"Shell>ShellId"`
		Selectors []struct {
			Name  string `xml:"Name,attr"`
			Value string `xml:",chardata"`
		} `xml:"ResourceCreated>ReferenceParameters>SelectorSet>Selector"`
		CommandID  string      `xml:"CommandResponse>CommandId"`
		Enumerated enumeration `xml:"EnumerateResponse"`
		Pulled     enumeration `xml:"PullResponse"`
		Receive    *struct {
			Streams []stream `xml:"Stream"`
			State   struct {
				CommandID string `xml:"CommandId,attr"`
				State     string `xml:"State,attr"`
				ExitCode  string `xml:"ExitCode"`
			} `xml:"CommandState"`
		} `xml:"ReceiveResponse"`
	} `xml:"Body"`
}

// enumeration is a part of a list of shells.
type enumeration struct {
	Context string      `xml:"EnumerationContext"`
	Shells  []shellInfo `xml:"Items>Shell"`
	End     *struct{}   `xml:"EndOfSequence"`
}

// stream is a piece of a command's output, cut anywhere.
type stream struct {
	Name      string `xml:"Name,attr"`
	CommandID string `xml:"CommandId,attr"`
	Data      string `xml:",chardata"`
}

func (s stream) bytes() ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s.Data), ""))
	if err != nil {
		return nil, fmt.Errorf("output of %q is not base64: %w", excerpt(s.Name), err)
	}
	return b, nil
}

// readEnvelope reads an unsealed answer. A fault is an error whatever the HTTP
// status is, and a status other than 200 is an error whatever the body is.
func readEnvelope(status int, contentType string, body []byte) (*envelope, error) {
	if !strings.Contains(strings.ToLower(contentType), "application/soap+xml") {
		return nil, statusError(&reply{status: status, header: http.Header{"Content-Type": {contentType}}, body: body})
	}
	e := &envelope{}
	if err := xml.Unmarshal(body, e); err != nil {
		return nil, &StatusError{Status: status, Detail: "the answer is not a SOAP message: " + excerpt(err.Error())}
	}
	if f := e.Body.Fault; f != nil {
		code, _ := strconv.ParseUint(strings.TrimSpace(f.Detail.WSMan.Code), 10, 32) // 0 if it has none
		return nil, &Fault{Code: uint32(code), Subcode: excerpt(f.Subcode), Reason: excerpt(f.Text)}
	}
	if status != http.StatusOK {
		return nil, &StatusError{Status: status, Detail: "a SOAP message that is no fault"}
	}
	return e, nil
}

// statusError describes an answer that is not what the protocol wants.
func statusError(r *reply) error {
	detail := fmt.Sprintf("not a WS-Management answer (%q, %d bytes)", excerpt(r.header.Get("Content-Type")), len(r.body))
	if r.status == http.StatusInternalServerError && len(r.body) == 0 {
		detail = "empty: WinRM does so when AllowUnencrypted is false and the message is neither sealed nor over HTTPS"
	}
	return &StatusError{Status: r.status, Detail: detail}
}

// idPattern is what shells and commands are named by: GUIDs. They go back into
// requests, so nothing else may get in.
var idPattern = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

func checkID(id string) (string, error) {
	id = strings.TrimSpace(id)
	if !idPattern.MatchString(id) {
		return "", errors.New("the host answered without a valid ID")
	}
	return id, nil
}

// shellID is the new shell's ID in the answer to Create.
func (e *envelope) shellID() (string, error) {
	id := e.Body.ShellID // newer Windows
	for _, s := range e.Body.Selectors {
		if s.Name == "ShellId" {
			id = s.Value
		}
	}
	return checkID(id)
}
