package winrm

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/masterzen/winrm/soap"
)

// maxEnvelope is the size of answers that we ask for, the default of the oldest
// Windows (MaxEnvelopeSizekb 150).
const maxEnvelope = 153600

// idleTimeout is the life of a shell without requests: the shells that we could
// not delete end then. Windows' own is two hours, and on old hosts an account
// may have five shells. That it is no round number marks a shell as ours.
const idleTimeout = 3*time.Minute + 700*time.Millisecond

const (
	shellResource  = soap.NS_WIN_SHELL + "/cmd"
	actionCreate   = soap.NS_TRANSFER + "/Create"
	actionDelete   = soap.NS_TRANSFER + "/Delete"
	actionCommand  = soap.NS_WIN_SHELL + "/Command"
	actionReceive  = soap.NS_WIN_SHELL + "/Receive"
	actionSend     = soap.NS_WIN_SHELL + "/Send"
	actionEnum     = soap.NS_ENUM + "/Enumerate"
	actionPull     = soap.NS_ENUM + "/Pull"
	codePageUTF8   = "65001"
	anonymousReply = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
)

// message begins a request. timeout is OperationTimeout, after which the host
// answers with FaultTimedOut. Values are not escaped by the library: they are
// ours, or checked by checkID.
func message(url, action, shell string, timeout time.Duration, options ...*soap.HeaderOption) *soap.SoapMessage {
	return resourceMessage(url, action, shellResource, shell, timeout, options...)
}

func resourceMessage(url, action, resource, shell string, timeout time.Duration, options ...*soap.HeaderOption) *soap.SoapMessage {
	h := soap.NewMessage().Header().
		To(url).
		ReplyTo(anonymousReply).
		MaxEnvelopeSize(maxEnvelope).
		Id("uuid:" + newUUID()).
		Locale("en-US").
		Timeout(duration(timeout)).
		Action(action).
		ResourceURI(resource).
		ShellId(shell)
	for _, o := range options {
		h.AddOption(o)
	}
	return h.Build()
}

// createMessage opens a shell whose commands have these variables, [MS-WSMV]
// 2.2.4.37. WINRS_NOPROFILE keeps the account's profile unloaded, which is faster
// and leaves nothing on the host; the code page makes the tools print UTF-8.
func createMessage(url string, variables map[string]string, timeout time.Duration) string {
	m := message(url, actionCreate, "", timeout,
		soap.NewHeaderOption("WINRS_NOPROFILE", "TRUE"),
		soap.NewHeaderOption("WINRS_CODEPAGE", codePageUTF8))
	shell := m.CreateBodyElement("Shell", soap.DOM_NS_WIN_SHELL)
	if len(variables) > 0 {
		environment := m.CreateElement(shell, "Environment", soap.DOM_NS_WIN_SHELL)
		for _, name := range slices.Sorted(maps.Keys(variables)) {
			m.CreateElement(environment, "Variable", soap.DOM_NS_WIN_SHELL).SetAttr("Name", name).SetContent(variables[name])
		}
	}
	m.CreateElement(shell, "InputStreams", soap.DOM_NS_WIN_SHELL).SetContent("stdin")
	m.CreateElement(shell, "OutputStreams", soap.DOM_NS_WIN_SHELL).SetContent("stdout stderr")
	m.CreateElement(shell, "IdleTimeOut", soap.DOM_NS_WIN_SHELL).SetContent(duration(idleTimeout))
	return m.String()
}

// commandMessage runs a command line by cmd.exe. It must not hold characters
// that XML treats specially; ours do not.
func commandMessage(url, shell, command string, timeout time.Duration) string {
	m := message(url, actionCommand, shell, timeout,
		soap.NewHeaderOption("WINRS_CONSOLEMODE_STDIN", "FALSE"),
		soap.NewHeaderOption("WINRS_SKIP_CMD_SHELL", "FALSE"))
	line := m.CreateBodyElement("CommandLine", soap.DOM_NS_WIN_SHELL)
	m.CreateElement(line, "Command", soap.DOM_NS_WIN_SHELL).SetContent(command)
	return m.String()
}

// receiveMessage waits for output.
func receiveMessage(url, shell, command string, timeout time.Duration) string {
	m := message(url, actionReceive, shell, timeout)
	receive := m.CreateBodyElement("Receive", soap.DOM_NS_WIN_SHELL)
	m.CreateElement(receive, "DesiredStream", soap.DOM_NS_WIN_SHELL).
		SetAttr("CommandId", command).SetContent("stdout stderr")
	return m.String()
}

// sendMessage writes to a command's standard input.
func sendMessage(url, shell, command string, data []byte, timeout time.Duration) string {
	m := message(url, actionSend, shell, timeout)
	send := m.CreateBodyElement("Send", soap.DOM_NS_WIN_SHELL)
	m.CreateElement(send, "Stream", soap.DOM_NS_WIN_SHELL).
		SetAttr("Name", "stdin").SetAttr("CommandId", command).SetContent(base64.StdEncoding.EncodeToString(data))
	return m.String()
}

// enumerateMessage asks for a list of shells, [DSP0226] 8.2, and pullMessage for
// its entries.
func enumerateMessage(url string, timeout time.Duration) string {
	m := resourceMessage(url, actionEnum, soap.NS_WIN_SHELL, "", timeout)
	m.CreateBodyElement("Enumerate", soap.DOM_NS_ENUM).DeclareNamespace(soap.DOM_NS_ENUM)
	return m.String()
}

func pullMessage(url, context string, timeout time.Duration) string {
	m := resourceMessage(url, actionPull, soap.NS_WIN_SHELL, "", timeout)
	pull := m.CreateBodyElement("Pull", soap.DOM_NS_ENUM)
	pull.DeclareNamespace(soap.DOM_NS_ENUM)
	m.CreateElement(pull, "EnumerationContext", soap.DOM_NS_ENUM).SetContent(context)
	m.CreateElement(pull, "MaxElements", soap.DOM_NS_ENUM).SetContent("50")
	return m.String()
}

// deleteMessage ends a shell and whatever runs in it.
func deleteMessage(url, shell string, timeout time.Duration) string {
	m := message(url, actionDelete, shell, timeout)
	m.NewBody()
	return m.String()
}

// duration writes an xs:duration as Windows does.
func duration(d time.Duration) string { return fmt.Sprintf("PT%.3fS", d.Seconds()) }

func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
