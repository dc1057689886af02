package simhost

import "fmt"

// Codes of WS-Management faults, WSManFault/@Code.
const (
	faultTimedOut        = 2150858793 // OperationTimeout passed without output: ask again
	faultNoSuchShell     = 2150858843 // the shell or the command is not there
	faultSchema          = 2150858817 // the request does not match the schema
	faultShellQuota      = 2150859173 // too many shells of this user
	faultOperationQuota  = 2150859174 // too many operations of this user
	faultAborted         = 2147943395 // ERROR_OPERATION_ABORTED: ended from outside
	faultFileNotFound    = 2147942402 // ERROR_FILE_NOT_FOUND
	faultUnsupported     = 2150858752 // the action is not supported
	faultCommandTooLong  = 2147942606 // ERROR_FILENAME_EXCED_RANGE
	faultInvalidSelector = "w:InvalidSelectors"
)

// wsFault is a SOAP fault, sent with status 500.
type wsFault struct {
	code    uint32
	sender  bool   // the client's doing, not ours
	subcode string // "w:TimedOut"
	text    string
}

func (f *wsFault) Error() string { return fmt.Sprintf("WSMan fault %d: %s", f.code, f.text) }

func timedOut() *wsFault {
	return &wsFault{code: faultTimedOut, subcode: "w:TimedOut",
		text: "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  "}
}

func noSuchShell(id string) *wsFault {
	return &wsFault{code: faultNoSuchShell, sender: true, subcode: faultInvalidSelector,
		text: fmt.Sprintf("The request for the Windows Remote Shell with ShellId %.40q failed because the shell was not found on the server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the server. Provide the correct ShellId or create a new shell and retry the operation. ", id)}
}

func schemaFault(what string) *wsFault {
	return &wsFault{code: faultSchema, sender: true, subcode: "w:SchemaValidationError",
		text: "The SOAP XML in the message does not match the corresponding XML schema definition. Change the XML and retry. " + what}
}

func shellQuota(allowed int) *wsFault {
	return &wsFault{code: faultShellQuota, subcode: "w:QuotaLimit",
		text: fmt.Sprintf("The WS-Management service cannot process the request. This user is allowed a maximum number of %d concurrent shells, which has been exceeded. Close existing shells or raise the quota for this user. ", allowed)}
}

func operationQuota(allowed int) *wsFault {
	return &wsFault{code: faultOperationQuota, subcode: "w:QuotaLimit",
		text: fmt.Sprintf("The WS-Management service cannot process the request. The maximum number of concurrent operations for this user has been exceeded. Close existing operations for this user, or raise the quota for this user. The current quota is %d. ", allowed)}
}

func aborted() *wsFault {
	return &wsFault{code: faultAborted, subcode: "w:InternalError",
		text: "The I/O operation has been aborted because of either a thread exit or an application request. "}
}

// inputRefused is how a host may answer that takes no standard input. (What a real
// one would say is not known to us.)
func inputRefused() *wsFault {
	return &wsFault{code: 50, subcode: "w:UnsupportedFeature", text: "The request is not supported. "}
}

func fileNotFound() *wsFault {
	return &wsFault{code: faultFileNotFound, subcode: "w:InternalError", text: "The system cannot find the file specified. "}
}

// envelope is f as an answer to r, which may be nil. machine is the host's
// name; text, if not empty, replaces the English one.
func (f *wsFault) envelope(r *request, machine, text string) []byte {
	if r == nil {
		r = &request{}
	}
	if text == "" {
		text = f.text
	}
	code := "s:Receiver"
	if f.sender {
		code = "s:Sender"
	}
	text = escape(text)
	return reply(r, nsManage+"/fault", fmt.Sprintf(
		`<s:Fault><s:Code><s:Value>%s</s:Value><s:Subcode><s:Value>%s</s:Value></s:Subcode></s:Code>`+
			`<s:Reason><s:Text xml:lang="en-US">%s</s:Text></s:Reason>`+
			`<s:Detail><f:WSManFault xmlns:f="%s" Code="%d" Machine="%s"><f:Message>%s</f:Message></f:WSManFault></s:Detail></s:Fault>`,
		code, f.subcode, text, nsFault, f.code, escape(machine), text))
}
