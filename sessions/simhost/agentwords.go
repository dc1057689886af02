package simhost

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// object is a JSON object.
type object = map[string]interface{}

// incarnation is one session among all that a host ever has.
type incarnation struct {
	id    int
	logon int64
}

func incarnationOf(s *sessions.Session) incarnation { return incarnation{s.ID, fileTime(s.LogonAt)} }

// states are the sessions as the agent tells them.
func (p *agentPlayer) states() []object {
	out := make([]object, 0, len(p.seen.sessions))
	p.inputs = make(map[incarnation]int64, len(p.seen.sessions))
	for i := range p.seen.sessions {
		s := &p.seen.sessions[i]
		p.inputs[incarnationOf(s)] = fileTime(s.LastInputAt)
		o := object{
			"id": s.ID, "state": wtsState(s.State), "name": s.Name, "user": s.Account.User, "domain": s.Account.Domain,
			"logon": fileTime(s.LogonAt), "disc": fileTime(s.DisconnectedAt), "input": fileTime(s.LastInputAt),
			"client": s.ClientName, "addr": addressOf(s), "program": s.Program, "error": 0,
		}
		if m, ok := p.seen.markers[s.ID]; ok {
			o["keep"], o["marked"] = m.text, fileTime(m.at)
		}
		out = append(out, o)
	}
	return out
}

// newInputs are the last inputs that are others than have been told.
func (p *agentPlayer) newInputs() []object {
	var out []object
	for i := range p.seen.sessions {
		s := &p.seen.sessions[i]
		k, input := incarnationOf(s), fileTime(s.LastInputAt)
		if told, ok := p.inputs[k]; !ok || told != input {
			p.inputs[k] = input
			out = append(out, object{"id": k.id, "logon": k.logon, "input": input})
		}
	}
	return out
}

// hash is over what makes a state another one: not over clocks and last inputs.
func (r *reading) hash() string {
	b := asciiJSON(agentFacts(r.options))
	for i := range r.sessions {
		s := &r.sessions[i]
		m := r.markers[s.ID]
		for _, n := range [...]int64{int64(s.ID), int64(wtsState(s.State)), fileTime(s.LogonAt), fileTime(s.DisconnectedAt), fileTime(m.at)} {
			b = append(strconv.AppendInt(b, n, 10), '\t')
		}
		for _, text := range [...]string{s.Name, s.Account.User, s.Account.Domain, s.ClientName, addressOf(s), s.Program, m.text} {
			b = append(strconv.AppendQuote(b, text), '\t')
		}
	}
	h := fnv.New64a()
	h.Write(b)
	return strconv.FormatUint(h.Sum64(), 16)
}

// addressOf is the client's address as the agent tells it: that of IPv4 only.
func addressOf(s *sessions.Session) string {
	if !s.ClientAddr.Is4() {
		return ""
	}
	return s.ClientAddr.String()
}

// work is what the agent tells of programs: names that have changed, and sums of
// disconnected sessions.
func (p *agentPlayer) work() []object {
	out, names := []object{}, map[string]string{}
	for _, s := range p.seen.sessions {
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
