// SPDX-License-Identifier: GPL-3.0-only

package probe

import "fmt"

// Code is a number that the host sent, with the name that the specifications give it.
type Code struct {
	Value string `json:"code"`           // hexadecimal, as in "0xc000006d"
	Name  string `json:"name,omitempty"` // empty if unknown
}

func (c Code) String() string {
	if c.Name == "" {
		return c.Value
	}
	return c.Name + " (" + c.Value + ")"
}

func newCode(v uint32, names map[uint32]string) *Code {
	return &Code{Value: fmt.Sprintf("%#x", v), Name: names[v]}
}

// ntStatus names the errorCode of a TSRequest; nil for 0, which is no error.
func ntStatus(v int64) *Code {
	if v == 0 {
		return nil
	}
	return newCode(uint32(v), ntStatusNames)
}

// ntStatusNames are the values of [MS-ERREF] 2.3.1 that a logon can end with,
// and the HRESULTs of 2.1.1 that hosts send in the same place.
var ntStatusNames = map[uint32]string{
	0xc0000022: "STATUS_ACCESS_DENIED",
	0xc000005e: "STATUS_NO_LOGON_SERVERS",
	0xc0000064: "STATUS_NO_SUCH_USER",
	0xc000006a: "STATUS_WRONG_PASSWORD",
	0xc000006d: "STATUS_LOGON_FAILURE",
	0xc000006e: "STATUS_ACCOUNT_RESTRICTION",
	0xc000006f: "STATUS_INVALID_LOGON_HOURS",
	0xc0000070: "STATUS_INVALID_WORKSTATION",
	0xc0000071: "STATUS_PASSWORD_EXPIRED",
	0xc0000072: "STATUS_ACCOUNT_DISABLED",
	0xc00000bb: "STATUS_NOT_SUPPORTED",
	0xc00000dc: "STATUS_INVALID_SERVER_STATE",
	0xc0000133: "STATUS_TIME_DIFFERENCE_AT_DC",
	0xc000015b: "STATUS_LOGON_TYPE_NOT_GRANTED",
	0xc000018b: "STATUS_NO_TRUST_SAM_ACCOUNT",
	0xc000018d: "STATUS_TRUSTED_RELATIONSHIP_FAILURE",
	0xc0000193: "STATUS_ACCOUNT_EXPIRED",
	0xc0000224: "STATUS_PASSWORD_MUST_CHANGE",
	0xc0000234: "STATUS_ACCOUNT_LOCKED_OUT",
	0xc0000388: "STATUS_DOWNGRADE_DETECTED",
	0xc0000413: "STATUS_AUTHENTICATION_FIREWALL_FAILED",
	0xc0000418: "STATUS_NTLM_BLOCKED",
	0x80090302: "SEC_E_UNSUPPORTED_FUNCTION",
	0x80090304: "SEC_E_INTERNAL_ERROR",
	0x80090308: "SEC_E_INVALID_TOKEN",
	0x8009030c: "SEC_E_LOGON_DENIED",
	0x8009030d: "SEC_E_UNKNOWN_CREDENTIALS",
	0x80090311: "SEC_E_NO_AUTHENTICATING_AUTHORITY",
}

// logonErrorNames are the ErrorNotificationType values of a Logon Errors Info,
// [MS-RDPBCGR] 2.2.10.1.1.4.1.1; others there are NTSTATUS.
var logonErrorNames = map[uint32]string{
	0xfffffff8: "LOGON_MSG_SESSION_BUSY_OPTIONS",
	0xfffffff9: "LOGON_MSG_DISCONNECT_REFUSED",
	0xfffffffa: "LOGON_MSG_NO_PERMISSION",
	0xfffffffb: "LOGON_MSG_BUMP_OPTIONS",
	0xfffffffc: "LOGON_MSG_RECONNECT_OPTIONS",
	0xfffffffd: "LOGON_MSG_SESSION_TERMINATE",
	0xfffffffe: "LOGON_MSG_SESSION_CONTINUE",
	0xffffffff: "ERROR_CODE_ACCESS_DENIED",
}
