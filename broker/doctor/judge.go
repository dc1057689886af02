package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// judge says what a reading means for the broker. What a kind of reading cannot
// tell is said to be so, with how to look it up; it is no warning, for nobody
// could make it go away.
func (h Host) judge(r sessions.Report) []Finding {
	state := sessions.HostState{Host: h.Host, Report: &r}
	all := []Finding{h.rights(&r)}
	if f, found := language(&r); found {
		all = append(all, f)
	}
	if _, why, instead := strings.Cut(r.Source, "(no agent: "); instead {
		all = append(all, warning(CheckTools, "no agent can run on the host, so it is read by %s: %s", source(&r), strings.TrimSuffix(why, ")")).
			advise("readings by an agent are exact and live, those by text are neither: see whether the host can be changed (application control, Constrained Language Mode)"))
	}
	all = append(all, h.system(&r))
	all = append(all, occupancy(&state)...)
	all = append(all, slots(&state)...)
	all = append(all, h.counting(&state), h.drain(&r), clock(&r))
	all = append(all, h.policies(&r)...)
	return append(all, h.eviction(&state)...)
}

// kind names the kind of reading in texts, without what a driver adds to it:
// "quser (no agent: …)".
func kind(r *sessions.Report) string { return "this kind of reading (" + source(r) + ")" }

func source(r *sessions.Report) string {
	name, _, _ := strings.Cut(r.Source, " ")
	return name
}

func (h Host) rights(r *sessions.Report) Finding {
	system, users := 0, 0
	for _, s := range r.Sessions {
		switch {
		case s.HasUser():
			users++
		case s.State == sessions.StateListen || strings.EqualFold(s.Name, "services"):
			system++
		}
	}
	switch {
	case !h.Management.Kind.windows():
		return ok(CheckRights, "commands run as root, which sees all sessions and may end them")
	case r.Source == "agent" && !slices.ContainsFunc(r.Warnings, aboutRights):
		return ok(CheckRights, "the account is an administrator there, which sees all sessions and may log them off")
	case system == 0:
		return warning(CheckRights, "the account sees %s and no session of the system, so others may be there unseen", count(users, "session of a user", "sessions of users")).
			advise("%s", noSight)
	}
	return ok(CheckRights, "the account sees the sessions of others: %s, %d of the system", count(users, "of a user", "of users"), system).
		advise("whether it may log sessions off is not told by %s: it needs the Reset and Logoff rights on RDP-Tcp, which %s gives", kind(r), prepare)
}

// language is about state words; only texts have them.
func language(r *sessions.Report) (Finding, bool) {
	var unknown []string
	for _, s := range r.Sessions {
		if s.State == sessions.StateUnknown {
			unknown = append(unknown, who(s))
		}
	}
	switch {
	case len(unknown) > 0:
		return warning(CheckLanguage, "%s in a state that is not known to this version: %s", count(len(unknown), "session is", "sessions are"), strings.Join(unknown, ", ")).
			advise("they hold their slots and are never logged off. Run qwinsta.exe on the host and report the state words that it prints, with the host's language"), true
	case source(r) == "quser":
		return ok(CheckLanguage, "the state of every session is known in the host's language"), true
	}
	return Finding{}, false
}

// who names a session in texts. Names are the host's to choose.
func who(s sessions.Session) string {
	if s.Account.IsZero() {
		return fmt.Sprintf("%d", s.ID)
	}
	return fmt.Sprintf("%d of %q", s.ID, s.Account.String())
}

func (h Host) system(r *sessions.Report) Finding {
	switch {
	case h.Management.Kind.windows() && r.OS == "":
		return ok(CheckSystem, "the edition of Windows is not told by %s", kind(r))
	case h.Management.Kind.windows():
		return ok(CheckSystem, "%s", r.OS)
	}
	return ok(CheckSystem, "%s; the version of xrdp is not told by %s", cmp.Or(r.OS, "Linux"), kind(r)).
		advise("on the host: xrdp --version")
}

// occupancy is who is there now.
func occupancy(h *sessions.HostState) []Finding {
	var active, disconnected, undated, counted int
	var going []string
	for _, s := range h.Report.Sessions {
		switch {
		case s.State == sessions.StateDown || s.State == sessions.StateReset:
			going = append(going, who(s))
		case s.HasUser() && s.State == sessions.StateActive:
			active++
		case s.HasUser() && s.State == sessions.StateDisconnected:
			disconnected++
			if _, known := h.Report.DisconnectedFor(s, h.Report.ReadAt); !known {
				undated++
			}
		}
		if h.Counted(s) {
			counted++
		}
	}
	all := []Finding{ok(CheckSessions, "%d active, %d disconnected", active, disconnected)}
	if limit := h.Limit(); limit > 0 && counted > limit {
		all = append(all, warning(CheckSlots, "%d sessions hold slots, and there are only %d", counted, limit).
			advise("slots in broker.yaml may be too low, or count_disconnected wrong"))
	}
	if undated > 0 {
		all = append(all, ok(CheckSessions, "since when is not known of %s: never logged off", count(undated, "disconnected session", "disconnected sessions")))
	}
	if len(going) > 0 {
		all = append(all, warning(CheckSessions, "on the way up or down: %s", strings.Join(going, ", ")).
			advise("one that stays so is stuck and keeps its slot: end its winlogon.exe (query process /id:ID), or restart the host"))
	}
	return all
}

// unlimited is how Windows writes "no limit".
const unlimited = 999999

func slots(h *sessions.HostState) []Finding {
	configured, reported, source := h.Host.Slots, h.Report.Limit, ""
	if h.Report.LimitSource != "" {
		source = " (" + h.Report.LimitSource + ")"
	}
	told := fmt.Sprint(reported)
	if reported >= unlimited {
		told = "no limit"
	}
	switch {
	case configured == 0 && reported == 0:
		return []Finding{failure(CheckSlots, "nobody says how many sessions the host takes: nobody new is sent there").
			advise("write slots: N for it in broker.yaml")}
	case configured == 0 && reported >= unlimited:
		return []Finding{warning(CheckSlots, "the host says that it has no limit%s", source).
			advise("write slots: N in broker.yaml, as many sessions as its memory bears")}
	case configured == 0:
		return []Finding{ok(CheckSlots, "the host takes %s sessions%s", told, source)}
	case reported == 0:
		return []Finding{ok(CheckSlots, "slots: %d in broker.yaml; the host's own limit is not told by %s", configured, kind(h.Report))}
	case configured > reported:
		return []Finding{warning(CheckSlots, "slots: %d in broker.yaml, but the host takes only %s%s", configured, told, source).
			advise("users beyond that meet the host's own refusal: lower slots, or raise the host's limit")}
	}
	return []Finding{ok(CheckSlots, "slots: %d in broker.yaml; the host takes %s%s", configured, told, source)}
}

func (h Host) counting(s *sessions.HostState) Finding {
	counts, known := s.CountsDisconnected()
	reported := s.Report.CountsDisconnected
	word := map[bool]string{true: "hold slots", false: "hold no slots"}[counts]
	switch {
	case h.CountDisconnected != sessions.Unknown && reported != sessions.Unknown && h.CountDisconnected != reported:
		return warning(CheckCounting, "broker.yaml says that disconnected sessions %s (count_disconnected: %s), the host says otherwise: %s", word, h.CountDisconnected, s.Report.CountsSource).
			advise("unless you know better, write count_disconnected: auto")
	case h.CountDisconnected != sessions.Unknown:
		return ok(CheckCounting, "disconnected sessions %s, as broker.yaml says", word)
	case known && s.Report.CountsSource != "":
		return ok(CheckCounting, "disconnected sessions %s: %s", word, s.Report.CountsSource)
	case known:
		return ok(CheckCounting, "disconnected sessions %s", word)
	}
	f := ok(CheckCounting, "disconnected sessions are assumed to hold slots; it is not told by %s", kind(s.Report))
	if h.Eviction == placement.Evict {
		f = warning(CheckCounting, "disconnected sessions are assumed to hold slots, and may be logged off for that; it is not told by %s", kind(s.Report))
	}
	return f.advise("administration mode since Windows Server 2008 may count active sessions only: with all slots full of disconnected ones, try a logon past the broker. " +
		"Then write count_disconnected: yes or no")
}

func (h Host) drain(r *sessions.Report) Finding {
	switch {
	case h.Draining:
		return warning(CheckDrain, "broker.yaml drains the host: nobody new is sent there").advise("take drain: true out when it is to take users again")
	case r.Draining:
		return warning(CheckDrain, "the host lets nobody new in: nobody new is sent there").advise("on the host: change logon /query, and /enable when it is to take users again")
	case h.Management.Kind.windows() && r.OS == "":
		return ok(CheckDrain, "drain mode is not told by %s", kind(r)).advise("on the host: change logon /query")
	}
	return ok(CheckDrain, "not draining")
}

// Clocks that differ by more than skewed are a warning. Kerberos gives up at
// five minutes.
const skewed = time.Minute

func clock(r *sessions.Report) Finding {
	if r.HostTime.IsZero() {
		return ok(CheckClock, "the host's clock is not told by %s", kind(r))
	}
	skew := r.HostTime.Sub(r.ReadAt).Round(time.Second)
	switch {
	case skew > skewed:
		return warning(CheckClock, "the host's clock is %s ahead of this machine's", skew).advise("%s", setClocks)
	case skew < -skewed:
		return warning(CheckClock, "the host's clock is %s behind this machine's", -skew).advise("%s", setClocks)
	}
	return ok(CheckClock, "the host's clock and this machine's agree")
}

const setClocks = "set both by NTP. The broker reckons with the host's own clock, so nobody is logged off too early; but logs will not match, and Kerberos and certificates fail"

// policies are the host's own warnings. Without any, a driver that tells the
// operating system has looked for them.
func (h Host) policies(r *sessions.Report) []Finding {
	var all []Finding
	for _, w := range r.Warnings {
		all = append(all, policy(w))
	}
	switch {
	case len(all) > 0:
		return all
	case r.OS != "":
		return []Finding{ok(CheckPolicies, "no setting of the host works against the broker")}
	case h.Management.Kind.windows():
		return []Finding{ok(CheckPolicies, "whether Windows itself ends sessions (MaxDisconnectionTime) or gives users several (fSingleSessionPerUser=0) is not told by %s", kind(r)).
			advise(`on the host: reg query "HKLM\SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services"`)}
	}
	return []Finding{ok(CheckPolicies, "whether sesman itself ends sessions (KillDisconnected, DisconnectedTimeLimit) is not told by %s", kind(r)).
		advise("on the host: see [Sessions] in /etc/xrdp/sesman.ini")}
}

// aboutRights picks the agent's warning that its account is no administrator.
func aboutRights(w string) bool { return strings.Contains(w, "no administrator") }

// policy is a warning of a driver, with what can be done about it.
func policy(w string) Finding {
	switch {
	case aboutRights(w):
		return warning(CheckRights, "%s", w).advise("%s", noSight)
	case strings.Contains(w, "session limit is not known"):
		return warning(CheckSlots, "%s", w)
	case strings.Contains(w, "logons are disabled"), strings.Contains(w, "switched off"):
		return warning(CheckDrain, "%s", w)
	case strings.Contains(w, "fSingleSessionPerUser"):
		return warning(CheckPolicies, "%s", w).
			advise("restrict users to a single session (policy, or fSingleSessionPerUser=1): else somebody who is sent back to their session may get a second one, and hold two slots")
	case strings.Contains(w, "nobody can get back"):
		return warning(CheckSessions, "%s", w).advise("end them: they hold memory, and perhaps somebody's unsaved work")
	}
	return warning(CheckPolicies, "%s", w).
		advise("sessions end, or users are cut off, by the host's own rule and not by the broker's: lift it, or know about it")
}

func (h Host) eviction(s *sessions.HostState) []Finding {
	counts, _ := s.CountsDisconnected()
	why := s.Report.NoEvict
	switch {
	case h.Eviction == placement.Off:
		return []Finding{ok(CheckEviction, "eviction.mode is off: nobody is logged off to make room")}
	case !counts:
		return []Finding{ok(CheckEviction, "nobody is logged off to make room: disconnected sessions hold no slots here")}
	case why != "" && h.Eviction == placement.Evict:
		return []Finding{warning(CheckEviction, "eviction.mode is evict, but nobody is ever logged off this host: %s", why)}
	case why != "":
		return []Finding{warning(CheckEviction, "eviction.mode is shadow, but this reading is not used to choose anybody by, so the shadow stays empty: %s", why)}
	case h.Eviction == placement.Shadow:
		return []Finding{ok(CheckEviction, "eviction.mode is shadow: the audit file says who would be logged off, nobody is")}
	}
	return []Finding{ok(CheckEviction, "sessions can be chosen to make room by this reading")}
}

// count is "1 one" or "N many".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
