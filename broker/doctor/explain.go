package doctor

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rdpbroker/rdpbroker/sessions/winagent"
	"github.com/rdpbroker/rdpbroker/sessions/winrm"
)

// prepare is the script that does what most advice about Windows hosts asks for.
const prepare = "deploy/windows/prepare-host.ps1"

// refusal is the form of every driver's error about an account that was not let
// in: it says how long nobody should try again.
type refusal interface {
	error
	RetryAfter() time.Duration
}

// verdictOf is what an error of a reading says of the account.
func verdictOf(err error) verdict {
	var no refusal
	if errors.As(err, &no) {
		return refused
	}
	var fault *winrm.Fault
	var agent *winagent.UnusableError
	if errors.As(err, &fault) || errors.As(err, &agent) || knownText(err) != nil {
		return accepted // it is about what the account was let in to
	}
	return unsaid
}

// explain says why a host could not be read, and what to do.
func (h Host) explain(err error) []Finding {
	var (
		no     refusal
		agent  *winagent.UnusableError
		fault  *winrm.Fault
		status *winrm.StatusError
		key    *knownhosts.KeyError
	)
	switch {
	case errors.As(err, &no):
		return []Finding{h.refusal(no)}
	case errors.As(err, &key):
		return []Finding{h.hostKey(key)}
	case errors.As(err, &agent):
		return h.let(failure(CheckTools, "%v", err).
			advise("%s; or allow the broker's account PowerShell in full language mode (application control)", h.otherWay()))
	case errors.As(err, &fault):
		return h.let(faultFinding(fault, err))
	case errors.As(err, &status):
		return []Finding{statusFinding(status, err)}
	case late(err):
		return []Finding{failure(CheckReading, "the host did not answer in time: %v", err).
			advise("see how busy the host is; a host that is always slow needs a larger timeout in broker.yaml")}
	}
	if t := knownText(err); t != nil {
		return h.let(failure(t.check, "%v", err).advise("%s", t.advice))
	}
	return []Finding{failure(CheckReading, "the host cannot be read: %v", err).
		advise("as long as that is so nobody new is sent there, and nobody is logged off there")}
}

// otherWay is how to read a Windows host that cannot run the agent.
func (h Host) otherWay() string {
	if h.Management.Kind == WindowsSSH {
		return "in place of ssh:, read such a host by rpc:, or by winrm: with mode: auto"
	}
	return "mode: auto reads such a host by the text tools"
}

// let is f, after the news that the account was let in.
func (h Host) let(f Finding) []Finding { return []Finding{h.letIn(), f} }

// hostKey is about an ssh host that is not known, or not the one that is known.
func (h Host) hostKey(e *knownhosts.KeyError) Finding {
	m := h.Management
	if len(e.Want) == 0 {
		return failure(CheckTrust, "%s has no key of the host", m.KnownHosts).
			advise("compare the key with the host's own (ssh-keygen -lf on its ssh_host_ed25519_key.pub), then: ssh-keyscan %s >> %s", keyscan(m.Addr), m.KnownHosts)
	}
	return failure(CheckTrust, "the host has another key than in %s; somebody may be in between", m.KnownHosts).
		advise("if the host was installed anew, take its old lines out (ssh-keygen -R) and add the new key; else find out who answers there")
}

// refusal is about a logon that failed.
func (h Host) refusal(e refusal) Finding {
	f := failure(CheckLogon, "%s is not let in: %v", h.Management.User, e)
	switch said := e.Error(); {
	case h.Management.Kind.ssh():
		return f.advise("it was tried once. Check user, and key_file (its public half in the user's authorized_keys on the host; for administrators of Windows in " +
			"administrators_authorized_keys) or the password; and PermitRootLogin for root")
	case strings.Contains(said, "does not do NTLM"):
		return f.advise(`on the host: winrm set winrm/config/service/auth @{Negotiate="true"}; and see the policy "Allow remote server management through WinRM"`)
	case strings.Contains(said, "does not seal"):
		return f.advise(`use https (an HTTPS listener); or allow 128-bit encryption for NTLM servers on the host (policy "Minimum session security for NTLM SSP based servers")`)
	}
	return f.advise("it was tried once, and each further wrong try counts towards the account's lockout. Check the form of user " +
		`(DOMAIN\user or user@domain; a local account: HOST\user), the password's file, that the account is neither locked, expired nor due for a new password, ` +
		`that it may log on from the network, and that NTLM is allowed on the host (policies "Network security: Restrict NTLM", group Protected Users); on the host, event 4625 in the Security log tells which`)
}

// Win32 errors that arrive as codes of WS-Management faults.
const (
	faultAccessDenied = 5
	faultNoFile       = 2147942402 // ERROR_FILE_NOT_FOUND as an HRESULT
)

func faultFinding(fault *winrm.Fault, err error) Finding {
	switch fault.Code {
	case faultAccessDenied:
		return failure(CheckRights, "the account may not open a shell over WinRM (error 5, access denied)").advise("%s", noShell)
	case winrm.FaultTooManyShells, winrm.FaultTooManyOperations:
		return failure(CheckReading, "the account's remote shells on the host are used up: %v", err).
			advise("something else uses the account, or shells were left behind: give the broker an account of its own, restart the WinRM service, or raise MaxShellsPerUser (winrm set winrm/config/winrs)")
	case winrm.FaultShellGone:
		return failure(CheckReading, "the host ended the remote shell in the middle of the reading: %v", err).
			advise("once may be chance; again and again: see the quotas of winrm get winrm/config/winrs, and whether AllowRemoteShellAccess is true")
	case faultNoFile:
		return failure(CheckTools, "the host has no command shell for WinRM: %v", err).
			advise("the WinRM feature for cmd shells is missing or blocked (AllowRemoteShellAccess, application control)")
	}
	return failure(CheckReading, "WinRM refused a request: %v", err).
		advise("look the code up: winrm helpmsg 0x%x on a Windows host", fault.Code)
}

func statusFinding(status *winrm.StatusError, err error) Finding {
	f := failure(CheckReading, "what answers does not answer as WinRM does: %v", err)
	if status.Status == 500 {
		return f.advise("over plain http that is a host which wants messages sealed (AllowUnencrypted=false) and did not take ours as such: use https")
	}
	return f.advise("check winrm.address: a proxy, or another web server, seems to answer there")
}

const (
	uac = `A local account that is an administrator, but not the built-in one, arrives over the network without its rights: ` +
		`use a domain account, or set LocalAccountTokenFilterPolicy=1 (DWORD) under HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System.`
	noShell = `Add the account to WinRM's RootSDDL, (A;;GXGR;;;SID): winrm configSDDL default, or ` + prepare + ` -Account. ` +
		`Membership in Remote Management Users alone does not open this kind of shell. ` + uac
	noSight = `Give the account the Query right on RDP-Tcp and on the console (` + prepare + ` -Account); it holds for sessions that begin after the change. ` +
		`Membership in Remote Management Users gives no such right. ` + uac
)

// text is a sentence of a driver that has no error type of its own, and what it means.
type text struct {
	part   string
	check  Check
	advice string
}

// texts are looked through in order.
var texts = []text{
	{"neither a listener nor the services session", CheckRights, noSight},
	{"access denied, Win32 error", CheckRights, noSight},
	{"access denied (0x", CheckRights, noSight},
	{"'quser.exe'", CheckTools, toolless}, // cmd.exe names what it does not find, in any language
	{"'qwinsta.exe'", CheckTools, toolless},
	{`\"quser.exe\"`, CheckTools, toolless}, // German quotes, inside of ours
	{`\"qwinsta.exe\"`, CheckTools, toolless},
	{"not found on the host", CheckTools, toolless},
	{"Win32 error 1722", CheckReading, "the host's Remote Desktop Services do not answer: is the service TermService running?"},
	{"printed nothing", CheckLanguage, wordless},
	{"not a row of this listing", CheckLanguage, wordless},
	{"can be read in more than one way", CheckLanguage, wordless},
	{"a text that is not known", CheckLanguage, wordless},
	{"runs no commands for this account", CheckRights, `see ForceCommand in the host's sshd_config, and DefaultShell in its registry under HKLM\SOFTWARE\OpenSSH`},
	{"the agent ended at its start", CheckTools, "see what the host says to: ssh USER@HOST powershell.exe -NoProfile -Command 1 (for a host that is not Windows, xrdp: is the right key)"},
	{"xrdp-sesman is not running", CheckTools, "on the host: systemctl status xrdp-sesman"},
	{"several xrdp-sesman are running", CheckTools, "stop all but one: the broker cannot tell which one users are sent to"},
	{"rights are missing", CheckRights, "commands must run as root: log on as root, or set command_prefix: [sudo, -n] and allow the user sudo without a password"},
	{"sudo:", CheckRights, "sudo must work for this user without a password and without a terminal: USER ALL=(root) NOPASSWD: /bin/sh in /etc/sudoers.d"},
	{"a tool is missing", CheckTools, "install it on the host"},
	{"the host did not run the script", CheckTools, "the account's shell must be a POSIX shell that prints nothing of its own"},
	{"the host's answer", CheckReading, "the host's /proc or its tools are not what the broker knows: see the text"},
}

const toolless = "quser.exe and qwinsta.exe are needed; Home editions of Windows do not have them (nor do they take RDP): take such a host out of broker.yaml"

const wordless = "the host's language or layout is not known to this version: run quser.exe and qwinsta.exe there and report what they print; until then nobody is logged off there, and nobody new is sent there"

// knownText is what is known of a driver's error by its words; nil if nothing.
func knownText(err error) *text {
	said := err.Error()
	for i := range texts {
		if strings.Contains(said, texts[i].part) {
			return &texts[i]
		}
	}
	return nil
}

// late reports whether a wait of the driver's ran out.
func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "in time")
}

// keyscan are the arguments of ssh-keyscan for host:port.
func keyscan(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	switch {
	case err != nil:
		return addr
	case port == "22":
		return host
	}
	return "-p " + port + " " + host
}
