package winagent

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestFacts(t *testing.T) {
	const (
		server = `"product":{"ProductType":"ServerNT"},"windows":{"ProductName":"Windows Server 2019 Standard","CurrentMajorVersionNumber":10,"CurrentBuildNumber":"17763","UBR":1234}`
		old    = `"product":{"ProductType":"ServerNT"},"windows":{"ProductName":"Microsoft Windows Server 2003","CurrentVersion":"5.2","CurrentBuildNumber":"3790"}`
		client = `"product":{"ProductType":"WinNT"},"windows":{"ProductName":"Windows 10 Pro","CurrentVersion":"6.3","CurrentMajorVersionNumber":10,"CurrentBuildNumber":"22631"}`
		host   = `,"ts":{"TSAppCompat":1}`
	)
	for _, c := range []struct {
		name, in string
		limit    int
		source   string // part of
		counts   sessions.Tri
		drains   bool
		warning  string // part of the only one, "" for none
	}{
		{"nothing could be read", ``, 0, "", sessions.Unknown, false, ""},
		{"administration mode", server, 2, "administration mode", sessions.No, false, ""},
		{"administration mode of 2003", old, 2, "administration mode", sessions.Yes, false, ""},
		{"one session by policy", server + `,"policy":{"MaxInstanceCount":1}`, 1, "by policy", sessions.No, false, ""},
		{"administration mode stays at two", server + `,"policy":{"MaxInstanceCount":10}`, 2, "administration mode", sessions.No, false, ""},
		{"session host", server + host, unlimited, "without a limit", sessions.Unknown, false, ""},
		{"session host, no limit in every spelling", server + host + `,"policy":{"MaxInstanceCount":999999},"rdptcp":{"MaxInstanceCount":4294967295}`, unlimited, "without a limit", sessions.Unknown, false, ""},
		{"session host with a limit", server + host + `,"rdptcp":{"MaxInstanceCount":40}`, 40, "set on the host", sessions.Unknown, false, ""},
		{"policy before the local limit", server + host + `,"policy":{"MaxInstanceCount":30},"rdptcp":{"MaxInstanceCount":20}`, 30, "by policy", sessions.Unknown, false, ""},
		{"policy switched off is a text", server + host + `,"policy":{"MaxInstanceCount":"0"},"rdptcp":{"MaxInstanceCount":20}`, 20, "set on the host", sessions.Unknown, false, ""},
		{"client", client, 1, "client edition", sessions.No, false, ""},
		{"client with many sessions", `"product":{"ProductType":"WinNT"},"windows":{"ProductName":"Windows 11 Enterprise multi-session","CurrentMajorVersionNumber":10}`, unlimited, "without", sessions.Unknown, false, ""},
		{"draining", server + `,"ts":{"TSServerDrainMode":2}`, 2, "", sessions.No, true, ""},
		{"not draining", server + `,"ts":{"TSServerDrainMode":0}`, 2, "", sessions.No, false, ""},
		{"logons disabled", server + `,"winlogon":{"WinStationsDisabled":"1"}`, 2, "", sessions.No, true, "logons are disabled"},
		{"switched off", server + `,"ts":{"fDenyTSConnections":1}`, 2, "", sessions.No, true, "switched off"},
		{"policy switches it on", server + `,"ts":{"fDenyTSConnections":1},"policy":{"fDenyTSConnections":0}`, 2, "", sessions.No, false, ""},
		{"several sessions per user", server + `,"ts":{"fSingleSessionPerUser":0}`, 2, "", sessions.No, false, "fSingleSessionPerUser is 0, set on the host"},
		{"Windows logs off", server + `,"policy":{"MaxDisconnectionTime":"60000"}`, 2, "", sessions.No, false, "disconnected for 1m0s (MaxDisconnectionTime, by policy)"},
		{"never logs off", server + `,"policy":{"MaxDisconnectionTime":0},"rdptcp":{"MaxDisconnectionTime":5,"fInheritMaxDisconnectionTime":0}`, 2, "", sessions.No, false, ""},
		{"local time limit", server + `,"rdptcp":{"MaxIdleTime":60000,"fInheritMaxIdleTime":0}`, 2, "", sessions.No, false, "disconnects sessions after 1m0s without input"},
		{"local time limit that the user's own overrides", server + `,"rdptcp":{"MaxIdleTime":60000,"fInheritMaxIdleTime":1}`, 2, "", sessions.No, false, ""},
		{"broken connections end sessions", server + `,"policy":{"fResetBroken":1}`, 2, "", sessions.No, false, "fResetBroken"},
		{"active sessions end", server + `,"policy":{"MaxConnectionTime":7200000}`, 2, "", sessions.No, false, "disconnects active sessions after 2h0m0s"},
	} {
		var f facts
		if err := json.Unmarshal([]byte("{"+strings.TrimPrefix(c.in, ",")+"}"), &f); err != nil {
			// a test that repeats a key takes the last one
			t.Fatalf("%s: %v", c.name, err)
		}
		var r sessions.Report
		f.fill(&r)
		if r.Limit != c.limit || !strings.Contains(r.LimitSource, c.source) || r.CountsDisconnected != c.counts || r.Draining != c.drains {
			t.Errorf("%s: limit %d (%s), counts %s (%s), draining %v", c.name, r.Limit, r.LimitSource, r.CountsDisconnected, r.CountsSource, r.Draining)
		}
		if (r.CountsDisconnected == sessions.Unknown) != (r.CountsSource == "") {
			t.Errorf("%s: counts %s because %q", c.name, r.CountsDisconnected, r.CountsSource)
		}
		if got := strings.Join(r.Warnings, "; "); len(r.Warnings) > 1 || (got == "") != (c.warning == "") || !strings.Contains(got, c.warning) {
			t.Errorf("%s: warnings %q", c.name, r.Warnings)
		}
	}
}

func TestWindowsName(t *testing.T) {
	for in, want := range map[string]string{
		`{"windows":{"ProductName":"Windows Server 2019 Standard","CurrentBuildNumber":"17763","UBR":1234}}`:          "Windows Server 2019 Standard (build 17763.1234)",
		`{"windows":{"ProductName":"Windows 10 Pro","CurrentBuildNumber":"22631"},"product":{"ProductType":"WinNT"}}`: "Windows 11 Pro (build 22631)",
		`{"windows":{"ProductName":"Windows 10 Pro","CurrentBuildNumber":"19045"},"product":{"ProductType":"WinNT"}}`: "Windows 10 Pro (build 19045)",
		`{"windows":{"ProductName":"Windows Server 2012 R2 Standard"}}`:                                               "Windows Server 2012 R2 Standard",
		`{}`: "",
	} {
		var f facts
		if err := json.Unmarshal([]byte(in), &f); err != nil {
			t.Fatal(err)
		}
		if got := f.windows(); got != want {
			t.Errorf("%s: %q", in, got)
		}
	}
}
