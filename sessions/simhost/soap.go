package simhost

import (
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Namespaces and actions of WS-Management, [MS-WSMV] and DSP0226.
const (
	nsSoap      = "http://www.w3.org/2003/05/soap-envelope"
	nsAddress   = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
	nsManage    = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
	nsShell     = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	nsTransfer  = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
	nsEnum      = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
	nsFault     = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
	nsIdentify  = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
	resourceCmd = nsShell + "/cmd"
)

// Action is the last part of a WS-Management action: "Create", "Receive".
type Action string

// The actions that the endpoint understands.
const (
	ActionCreate    Action = "Create"
	ActionDelete    Action = "Delete"
	ActionCommand   Action = "Command"
	ActionReceive   Action = "Receive"
	ActionSend      Action = "Send"
	ActionSignal    Action = "Signal"
	ActionEnumerate Action = "Enumerate"
	ActionPull      Action = "Pull"
	ActionIdentify  Action = "Identify"
)

var actions = map[string]Action{
	nsTransfer + "/Create": ActionCreate,
	nsTransfer + "/Delete": ActionDelete,
	nsShell + "/Command":   ActionCommand,
	nsShell + "/Receive":   ActionReceive,
	nsShell + "/Send":      ActionSend,
	nsShell + "/Signal":    ActionSignal,
	nsEnum + "/Enumerate":  ActionEnumerate,
	nsEnum + "/Pull":       ActionPull,
}

// envelope is a request, as far as the endpoint reads it. Names carry no
// namespaces: encoding/xml then takes any, and a fake need not be strict there.
type envelope struct {
	Header struct {
		Action           string
		MessageID        string
		ResourceURI      string
		OperationTimeout string
		Selectors        []namedValue `xml:"SelectorSet>Selector"`
		Options          []namedValue `xml:"OptionSet>Option"`
	}
	Body struct {
		Shell *struct {
			Name         string `xml:"Name,attr"`
			IdleTimeOut  string
			OutputStream string       `xml:"OutputStreams"`
			Variables    []namedValue `xml:"Environment>Variable"`
		}
		CommandLine *struct {
			Command   string
			Arguments []string
		}
		Receive *struct {
			DesiredStream struct {
				CommandID string `xml:"CommandId,attr"`
			}
		}
		Send *struct {
			Streams []struct {
				Name      string `xml:"Name,attr"`
				CommandID string `xml:"CommandId,attr"`
				End       bool   `xml:"End,attr"`
				Data      string `xml:",chardata"`
			} `xml:"Stream"`
		}
		Signal *struct {
			CommandID string `xml:"CommandId,attr"`
			Code      string
		}
		Identify *struct{}
	}
}

type namedValue struct {
	Name  string `xml:"Name,attr"`
	Value string `xml:",chardata"`
}

// request is an envelope with its parts read.
type request struct {
	envelope
	action  Action
	shellID string
	options map[string]string
	// timeout is how long the client wants the server to wait; 0 if it said nothing.
	timeout time.Duration
}

func parseRequest(b []byte) (*request, error) {
	r := &request{options: map[string]string{}}
	if err := xml.Unmarshal(b, &r.envelope); err != nil {
		return nil, fmt.Errorf("read SOAP envelope: %w", err)
	}
	if r.Body.Identify != nil {
		r.action = ActionIdentify
		return r, nil
	}
	r.action = actions[strings.TrimSpace(r.Header.Action)]
	if r.action == "" {
		return nil, fmt.Errorf("unknown action %.100q", r.Header.Action)
	}
	for _, s := range r.Header.Selectors {
		if s.Name == "ShellId" {
			r.shellID = strings.TrimSpace(s.Value)
		}
	}
	for _, o := range r.Header.Options {
		r.options[o.Name] = strings.TrimSpace(o.Value)
	}
	if t := strings.TrimSpace(r.Header.OperationTimeout); t != "" {
		d, err := parseDuration(t)
		if err != nil {
			return nil, err
		}
		r.timeout = d
	}
	return r, nil
}

var durationForm = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// parseDuration reads an xs:duration without years and months: "PT60.000S".
func parseDuration(s string) (time.Duration, error) {
	m := durationForm.FindStringSubmatch(s)
	if m == nil || s == "P" || strings.HasSuffix(s, "T") {
		return 0, fmt.Errorf("%.40q is not an xs:duration", s)
	}
	total := 0.0
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil {
			return 0, fmt.Errorf("read xs:duration %.40q: %w", s, err)
		}
		total += n * float64(unit)
	}
	if total > float64(1<<62) {
		return 0, errors.New("xs:duration out of range")
	}
	return time.Duration(total), nil
}

// formatDuration writes d as Windows does: "PT180.000S".
func formatDuration(d time.Duration) string { return fmt.Sprintf("PT%.3fS", d.Seconds()) }

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}

// reply is an answer to r with this action and body, which is XML.
func reply(r *request, action, body string) []byte {
	return fmt.Appendf(nil, `<s:Envelope xml:lang="en-US" xmlns:s="%s" xmlns:a="%s" xmlns:x="%s" xmlns:w="%s" xmlns:rsp="%s" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd">`+
		`<s:Header><a:Action>%s</a:Action><a:MessageID>uuid:%s</a:MessageID>`+
		`<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To><a:RelatesTo>%s</a:RelatesTo></s:Header>`+
		`<s:Body>%s</s:Body></s:Envelope>`,
		nsSoap, nsAddress, nsTransfer, nsManage, nsShell, action, newUUID(), escape(r.Header.MessageID), body)
}
