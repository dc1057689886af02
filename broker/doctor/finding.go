package doctor

import (
	"fmt"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
)

// Check names what a finding is about. Scripts may rely on these words.
type Check string

// The checks, in the order in which a report has them.
const (
	CheckName           Check = "name"            // names resolve to addresses
	CheckRDP            Check = "rdp"             // TCP, X.224, security, the certificate
	CheckBrokerName     Check = "broker-name"     // the names that users type are in the certificate
	CheckManagementName Check = "management-name" // as CheckName, where management has a name of its own
	CheckManagement     Check = "management"      // the management port can be reached
	CheckTrust          Check = "trust"           // its certificate is trusted, or its host key known
	CheckLogon          Check = "logon"           // the account is let in
	CheckReading        Check = "reading"         // the host can be read
	CheckRights         Check = "rights"          // the account sees and may do what it must
	CheckTools          Check = "tools"           // what the reading needs is on the host
	CheckLanguage       Check = "language"        // the host's words are understood
	CheckSystem         Check = "system"          // what the host runs
	CheckSessions       Check = "sessions"        // who is there
	CheckSlots          Check = "slots"           // how many sessions the host takes
	CheckCounting       Check = "counting"        // whether disconnected sessions hold slots
	CheckDrain          Check = "drain"           // whether new sessions are let in
	CheckClock          Check = "clock"           // the host's clock
	CheckPolicies       Check = "policies"        // settings that work against the broker
	CheckEviction       Check = "eviction"        // whether sessions can be logged off to make room
)

// Finding is the outcome of one check, or of a part of it.
type Finding struct {
	Check Check       `json:"check"`
	Level reach.Level `json:"level"`
	Text  string      `json:"text"`
	// Advice is what to do about it, or how to find out more; empty if nothing.
	Advice string `json:"advice,omitempty"`
}

// Report is what was found on one host.
type Report struct {
	Host string `json:"host"`
	Farm string `json:"farm"`
	Addr string `json:"addr"`
	// Findings are in the order of the checks, never empty.
	Findings []Finding `json:"findings"`
}

// Result is what was found on all hosts.
type Result struct {
	Time time.Time `json:"time"`
	// Failures and Warnings are how many there are on all hosts together.
	Failures int `json:"failures"`
	Warnings int `json:"warnings"`
	// Hosts are in the order in which they were asked for.
	Hosts []Report `json:"hosts"`
}

// Count is how many findings of r have the level.
func (r Report) Count(level reach.Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

func newResult(at time.Time, hosts []Report) Result {
	r := Result{Time: at, Hosts: hosts}
	for _, h := range hosts {
		r.Failures += h.Count(reach.LevelFailure)
		r.Warnings += h.Count(reach.LevelWarning)
	}
	return r
}

func ok(c Check, format string, args ...any) Finding {
	return Finding{Check: c, Level: reach.LevelOK, Text: fmt.Sprintf(format, args...)}
}

func warning(c Check, format string, args ...any) Finding {
	return Finding{Check: c, Level: reach.LevelWarning, Text: fmt.Sprintf(format, args...)}
}

func failure(c Check, format string, args ...any) Finding {
	return Finding{Check: c, Level: reach.LevelFailure, Text: fmt.Sprintf(format, args...)}
}

func (f Finding) advise(format string, args ...any) Finding {
	f.Advice = fmt.Sprintf(format, args...)
	return f
}
