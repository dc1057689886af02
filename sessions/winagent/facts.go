package winagent

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// facts are values of the host's registry, by key: policy (Policies\...\Terminal
// Services), rdptcp (WinStations\RDP-Tcp), ts (Control\Terminal Server),
// winlogon, product (ProductOptions) and windows (CurrentVersion).
type facts map[string]values

// values are DWORDs and strings. Other types are not sent, and are dropped.
type values map[string]any

func (v *values) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*v = make(values, len(raw))
	for name, r := range raw {
		var n int64
		var s string
		if json.Unmarshal(r, &n) == nil {
			(*v)[name] = n
		} else if json.Unmarshal(r, &s) == nil {
			(*v)[name] = s
		}
	}
	return nil
}

// number is a value as a number. A policy that was switched off leaves a text
// where a DWORD belongs, so texts of digits count.
func (f facts) number(key, name string) (int64, bool) {
	switch v := f[key][name].(type) {
	case int64:
		return v, true
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// first is the first of the keys that has the value: policies come before what
// is set locally.
func (f facts) first(name string, keys ...string) (n int64, key string, ok bool) {
	for _, k := range keys {
		if n, ok := f.number(k, name); ok {
			return n, k, true
		}
	}
	return 0, "", false
}

func (f facts) text(key, name string) string {
	switch v := f[key][name].(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// unlimited is how Windows writes "no limit" in its own policy.
const unlimited = 999999

// fill puts into r what the facts mean for it.
func (f facts) fill(r *sessions.Report) {
	r.OS = f.windows()
	r.Limit, r.LimitSource = f.limit()
	r.CountsDisconnected, r.CountsSource = f.countsDisconnected()
	f.drain(r)
	f.warn(r)
}

// role is how many sessions a host is for.
type role int

const (
	roleUnknown     role = iota
	roleClient           // Windows 10, 11 and the like
	roleAdmin            // a server without the Session Host role
	roleSessionHost      // a server with it, or Windows Enterprise multi-session
)

func (f facts) role() role {
	switch {
	case strings.Contains(strings.ToLower(f.text("windows", "ProductName")), "multi-session"):
		return roleSessionHost
	case strings.EqualFold(f.text("product", "ProductType"), "WinNT"):
		return roleClient
	}
	appCompat, ok := f.number("ts", "TSAppCompat")
	switch {
	case ok && appCompat == 1:
		return roleSessionHost
	case f.text("product", "ProductType") == "": // the registry could not be read
		return roleUnknown
	}
	return roleAdmin
}

// limit is the session limit and where it comes from; 0 if that is not known.
func (f facts) limit() (limit int, source string) {
	switch f.role() {
	case roleClient:
		limit, source = 1, "a client edition of Windows has one session"
	case roleAdmin:
		limit, source = 2, "administration mode has two sessions"
	case roleSessionHost:
		limit, source = unlimited, "session host without a limit of its own"
	}
	for _, key := range []string{"policy", "rdptcp"} {
		n, ok := f.number(key, "MaxInstanceCount")
		if !ok || n < 1 || n >= unlimited { // 0xFFFFFFFF is the local "no limit"
			continue
		}
		if limit == 0 || int(n) < limit {
			limit, source = int(n), "MaxInstanceCount, "+origin(key)
		}
		break
	}
	return limit, source
}

// countsDisconnected tells whether disconnected sessions hold slots, and why we
// think so. Since Windows Server 2008 the two sessions of administration mode
// are two active ones.
func (f facts) countsDisconnected() (sessions.Tri, string) {
	switch f.role() {
	case roleClient:
		return sessions.No, "on a client edition of Windows a disconnected user keeps nobody out"
	case roleAdmin:
		if major, ok := f.major(); ok && major < 6 {
			return sessions.Yes, "administration mode before Windows Server 2008 counts disconnected sessions"
		} else if ok {
			return sessions.No, "administration mode since Windows Server 2008 limits active sessions"
		}
	}
	return sessions.Unknown, ""
}

// major is the major version of Windows; 6 is Vista and Server 2008.
func (f facts) major() (int, bool) {
	if n, ok := f.number("windows", "CurrentMajorVersionNumber"); ok { // since Windows 10
		return int(n), true
	}
	first, _, _ := strings.Cut(f.text("windows", "CurrentVersion"), ".")
	n, err := strconv.Atoi(first)
	return n, err == nil
}

// windows is the product's name and build, for people; "" if not known.
func (f facts) windows() string {
	name, build := f.text("windows", "ProductName"), f.text("windows", "CurrentBuildNumber")
	if n, err := strconv.Atoi(build); err == nil && n >= 22000 && f.role() == roleClient {
		name = strings.Replace(name, "Windows 10", "Windows 11", 1) // the registry still says 10
	}
	if build != "" {
		if revision := f.text("windows", "UBR"); revision != "" {
			build += "." + revision
		}
		name += " (build " + build + ")"
	}
	return excerpt(name)
}

func origin(key string) string {
	if key == "policy" {
		return "by policy"
	}
	return "set on the host"
}

func (f facts) drain(r *sessions.Report) {
	if mode, ok := f.number("ts", "TSServerDrainMode"); ok && (mode == 1 || mode == 2) {
		r.Draining = true
	}
	if n, ok := f.number("winlogon", "WinStationsDisabled"); ok && n == 1 {
		r.Draining = true
		r.Warnings = append(r.Warnings, "logons are disabled on the host (change logon /disable), reconnects too")
	}
	if n, key, ok := f.first("fDenyTSConnections", "policy", "ts"); ok && n == 1 {
		r.Draining = true
		r.Warnings = append(r.Warnings, "Remote Desktop is switched off on the host (fDenyTSConnections, "+origin(key)+")")
	}
}

// warn names settings of the host that work against a broker.
func (f facts) warn(r *sessions.Report) {
	warn := func(format string, args ...any) { r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...)) }
	if n, key, ok := f.first("fSingleSessionPerUser", "policy", "ts"); ok && n == 0 {
		warn("users may get several sessions instead of their own back (fSingleSessionPerUser is 0, %s)", origin(key))
	}
	if d, key, ok := f.timeLimit("MaxDisconnectionTime", "fInheritMaxDisconnectionTime"); ok {
		warn("Windows itself logs off sessions that have been disconnected for %s (MaxDisconnectionTime, %s)", d, origin(key))
	}
	verb := "disconnects"
	if n, _, ok := f.first("fResetBroken", "policy", "rdptcp"); ok && n == 1 {
		verb = "logs off"
		warn("Windows logs sessions off when a time limit is reached or the connection breaks, instead of disconnecting them (fResetBroken)")
	}
	if d, key, ok := f.timeLimit("MaxIdleTime", "fInheritMaxIdleTime"); ok {
		warn("Windows itself %s sessions after %s without input (MaxIdleTime, %s)", verb, d, origin(key))
	}
	if d, key, ok := f.timeLimit("MaxConnectionTime", "fInheritMaxSessionTime"); ok {
		warn("Windows itself %s active sessions after %s (MaxConnectionTime, %s)", verb, d, origin(key))
	}
}

// timeLimit is a limit in milliseconds; 0 means never. The local value counts
// only if it is not inherited from the user's own settings.
func (f facts) timeLimit(name, inherit string) (d time.Duration, key string, ok bool) {
	n, key, ok := f.first(name, "policy", "rdptcp")
	if !ok || n <= 0 || n > 1<<32 {
		return 0, "", false
	}
	if key == "rdptcp" {
		if inherited, ok := f.number("rdptcp", inherit); !ok || inherited != 0 {
			return 0, "", false
		}
	}
	return time.Duration(n) * time.Millisecond, key, true
}
