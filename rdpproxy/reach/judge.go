package reach

import (
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// who names the clients that make an offer.
func (o Offer) who() string {
	switch o {
	case OfferHybridEx:
		return "clients like mstsc"
	case OfferHybrid:
		return "clients like FreeRDP and most thin clients"
	case OfferSSL:
		return "clients with TLS, without network level authentication"
	}
	return "clients with standard RDP security only"
}

// finding judges one answer by itself. What the host makes of the best offer of
// all is networkLevel's.
func (a Answer) finding() Finding {
	who := a.Offer.who()
	switch {
	case a.Error != "" && a.weak():
		return warning("%s get no answer: %s", who, a.Error).
			advise("a host that does not want them should tell them why: see its event log")
	case a.Error != "":
		return failure("%s get no answer: %s", who, a.Error).
			advise("check that the address is that of an RDP host and that nothing between cuts the connection")
	case a.Failure != nil:
		return a.refusal(who)
	case a.Selected == string(OfferRDP):
		return warning("%s get standard RDP security, which is weak", who).
			advise("let the host demand TLS (Windows: the policy \"Require use of specific security layer\"; xrdp: security_layer=tls), unless old clients need it")
	}
	return ok("%s get %s%s", who, a.Selected, withFlags(a.Flags))
}

func withFlags(flags []string) string {
	if len(flags) == 0 {
		return ""
	}
	return " (" + strings.Join(flags, ", ") + ")"
}

// weak says that the offer is of a kind that a host does well to refuse.
func (a Answer) weak() bool { return a.Offer == OfferRDP || a.Offer == OfferSSL }

// refusal judges a failure.
func (a Answer) refusal(who string) Finding {
	f := failure("%s are refused: %s", who, a.Failure.Name)
	switch a.Failure.Code {
	case x224.FailureSSLRequired, x224.FailureHybridRequired, x224.FailureSSLUserAuth:
		if a.weak() {
			return ok("%s are refused: %s", who, a.Failure.Name)
		}
	case x224.FailureSSLNotAllowed:
		// Clients come back at once without TLS.
		return warning("%s are asked to come back with standard RDP security, which is weak: %s", who, a.Failure.Name).
			advise("set the host's security layer to TLS or to negotiate")
	case x224.FailureSSLNoCertificate:
		return f.advise("the host has no certificate for TLS: give it one, or restart its Remote Desktop service so that it signs one")
	}
	return f.advise("the host should not say this to such clients: see its event log")
}

// networkLevel judges whether the host demands or does network level
// authentication, which the broker's care for disconnected sessions rests on.
func (r Result) networkLevel() (Finding, bool) {
	var best, plain *Answer
	for i, a := range r.Answers {
		switch a.Offer {
		case OfferHybridEx:
			best = &r.Answers[i]
		case OfferSSL:
			plain = &r.Answers[i]
		}
	}
	switch {
	case best == nil || best.Error != "" || best.Failure != nil && best.Failure.Code != x224.FailureSSLNotAllowed:
		return Finding{}, false
	case best.Selected != string(OfferHybrid) && best.Selected != string(OfferHybridEx):
		return warning("the host does not do network level authentication (NLA)").
			advise("the broker cannot see whether the host has accepted a password: sessions are logged off for somebody only under \"proof: known-user\"; where the host can do NLA, enable it"), true
	case plain != nil && plain.Selected != "":
		return warning("network level authentication (NLA) is done, but not demanded").
			advise("anybody who reaches the host can open a logon screen, which costs it memory and a connection: demand NLA"), true
	}
	return ok("network level authentication (NLA) is demanded"), true
}

func (t TLS) finding() Finding {
	switch {
	case t.Error != "":
		return failure("the TLS handshake failed: %s", t.Error).
			advise("see the host's event log (Schannel) and which TLS versions and ciphers it allows")
	case t.Outdated:
		return warning("%s with %s is outdated", t.Version, t.Cipher).
			advise("update the host or enable TLS 1.2: clients begin to refuse less")
	}
	return ok("%s with %s", t.Version, t.Cipher)
}

// findings judges a host's own certificate at a time.
func (c Certificate) findings(now time.Time) []Finding {
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	all := []Finding{ok("certificate %s, %s, SHA-256 %s", c.title(), c.Key, c.SHA256)}
	switch {
	case now.Before(c.NotBefore):
		all = append(all, failure("the certificate is not valid before %s", day(c.NotBefore)).
			advise("check the clocks of the host and of this machine"))
	case now.After(c.NotAfter):
		all = append(all, failure("the certificate has expired on %s", day(c.NotAfter)).
			advise("renew it: strict clients refuse the host, others warn their users"))
	case now.Add(renewBefore).After(c.NotAfter):
		all = append(all, warning("the certificate expires on %s", day(c.NotAfter)).
			advise("renew it, unless the host renews it by itself"))
	default:
		all = append(all, ok("the certificate is valid until %s", day(c.NotAfter)))
	}
	if c.Weak {
		all = append(all, warning("the certificate is weak: %s, %s", c.Key, c.Signature).
			advise("clients begin to refuse such certificates: issue one with at least RSA 2048 and SHA-256"))
	}
	if c.SelfSigned {
		all = append(all, warning("the certificate is signed by itself").
			advise("clients warn their users, and again for each host that the broker sends them to: use certificates of an authority that the clients trust"))
	}
	return all
}

// title is the subject with the names.
func (c Certificate) title() string {
	names := append(append([]string{}, c.DNSNames...), c.Addresses...)
	subject := c.Subject
	if subject == "" {
		subject = "without a subject"
	}
	if len(names) == 0 {
		return subject
	}
	return subject + " for " + strings.Join(names, ", ")
}

func (n Name) finding() Finding {
	if n.Covered {
		return ok("the certificate carries the name %s", n.Name)
	}
	return warning("the certificate does not carry the name %s", n.Name).
		advise("users who come under this name, through the broker for example, see a name warning: add it to the subject alternative names of the host's certificate")
}
