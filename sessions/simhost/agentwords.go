package simhost

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// object is a JSON object.
type object = map[string]interface{}

// states are sessions as the agent tells them.
func (p *agentPlayer) states(list []sessions.Session) []object {
	markers := map[int]marker{}
	if !p.who.LowRights { // the registry of others is not theirs to read
		markers = p.host.model.markers()
	}
	out := make([]object, 0, len(list))
	for _, s := range list {
		addr := ""
		if s.ClientAddr.Is4() {
			addr = s.ClientAddr.String()
		}
		o := object{
			"id": s.ID, "state": wtsState(s.State), "name": s.Name, "user": s.Account.User, "domain": s.Account.Domain,
			"logon": fileTime(s.LogonAt), "disc": fileTime(s.DisconnectedAt), "input": fileTime(s.LastInputAt),
			"client": s.ClientName, "addr": addr, "program": s.Program, "error": 0,
		}
		if m, ok := markers[s.ID]; ok {
			o["keep"], o["marked"] = m.text, fileTime(m.at)
		}
		out = append(out, o)
	}
	return out
}

// work is what the agent tells of programs: names that have changed, and sums of
// disconnected sessions.
func (p *agentPlayer) work(list []sessions.Session) []object {
	out, names := []object{}, map[string]string{}
	for _, s := range list {
		if !s.HasUser() || p.who.LowRights { // who does not show their programs to everybody
			continue
		}
		key := fmt.Sprint(s.ID, " ", fileTime(s.LogonAt))
		names[key] = strings.Join(s.Processes, "\n")
		before, told := p.names[key]
		o := object{"id": s.ID, "logon": fileTime(s.LogonAt)}
		if !told || before != names[key] {
			o["procs"] = append([]string{}, s.Processes...)
		}
		if s.State == sessions.StateDisconnected {
			o["cpu"], o["io"] = s.CPUTime, s.IOBytes
		}
		if len(o) > 2 {
			out = append(out, o)
		}
	}
	p.names = names
	return out
}

// agentFacts are the registry values of a host with these switches. What a host
// counts follows from its Windows: administration mode counts disconnected
// sessions before Windows Server 2008, and has two sessions at most.
func agentFacts(o Options) map[string]object {
	policy, ts := object{}, object{"TSAppCompat": 0, "TSServerDrainMode": int(o.Drain), "fDenyTSConnections": 0}
	windows := object{"ProductName": "Windows Server 2022 Standard", "CurrentVersion": "6.3", "CurrentMajorVersionNumber": 10, "CurrentBuildNumber": "20348"}
	winlogon := object{}
	if o.Slots == 0 || o.Slots > 2 {
		ts["TSAppCompat"] = 1
	} else if o.CountDisconnected {
		windows = object{"ProductName": "Microsoft Windows Server 2003", "CurrentVersion": "5.2", "CurrentBuildNumber": "3790"}
	}
	if o.Slots > 0 {
		policy["MaxInstanceCount"] = o.Slots
	}
	if o.ManySessionsPerUser {
		ts["fSingleSessionPerUser"] = 0
	}
	if o.MaxDisconnection > 0 {
		policy["MaxDisconnectionTime"] = o.MaxDisconnection.Milliseconds()
	}
	if o.LogonsDisabled {
		winlogon["WinStationsDisabled"] = "1"
	}
	return map[string]object{"policy": policy, "ts": ts, "winlogon": winlogon, "windows": windows, "product": {"ProductType": "ServerNT"}}
}

// wtsState is a state as a WTS_CONNECTSTATE_CLASS; what Windows has no number
// for is none of its states.
func wtsState(s sessions.State) int { return int(s) - int(sessions.StateActive) }

// fileTime is t in units of 100 ns since 1601; 0 if t is not known.
func fileTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()*1e7 + int64(t.Nanosecond())/100 + 116444736000000000
}

// fromWord is a name of a command line: base64, "-" for none.
func fromWord(w string) (string, bool) {
	if w == "-" {
		return "", true
	}
	b, err := base64.StdEncoding.DecodeString(w)
	return string(b), err == nil
}

// asciiJSON is v as JSON in ASCII, its keys sorted.
func asciiJSON(v interface{}) []byte {
	b, err := json.Marshal(v)
	if err != nil { // maps of numbers and texts do not fail
		panic(err)
	}
	var out strings.Builder
	for _, r := range string(b) {
		if r < 127 {
			out.WriteRune(r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, `\u%04x`, u)
		}
	}
	return []byte(out.String())
}
