package doctor

import (
	"context"
	"net"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// management is what the broker meets. A step that fails ends it: those after it
// would only fail for the same reason, and a host that is not trusted is told no
// password.
func (d *Doctor) management(ctx context.Context, h Host) []Finding {
	var all []Finding
	m := h.Management
	if m.Kind != XRDPLocal {
		rdpName, _, _ := net.SplitHostPort(h.Addr)
		if name, _, _ := net.SplitHostPort(m.Addr); name != rdpName {
			f, found := d.resolve(ctx, CheckManagementName, m.Addr)
			if all = append(all, f); !found {
				return all
			}
		}
		conn, f := d.connect(ctx, m)
		all = append(all, f)
		if conn == nil {
			return all
		}
		f, trusted := d.trusts(ctx, m, conn)
		if f.Text != "" {
			all = append(all, f)
		}
		conn.Close()
		if !trusted {
			return all
		}
	}
	return append(all, d.reading(ctx, h)...)
}

// trusts judges whom the password would go to. Over ssh and RPC that shows in the
// reading: the finding is empty then.
func (d *Doctor) trusts(ctx context.Context, m Management, conn net.Conn) (Finding, bool) {
	switch {
	case m.Kind != WinRM:
		return Finding{}, true
	case m.PlainHTTP:
		return warning(CheckTrust, "WinRM is used without TLS (plain_http): its messages are sealed by NTLM, but nothing proves that it is the right host").
			advise("bind a certificate to an HTTPS listener (deploy/windows/prepare-host.ps1), and take plain_http out"), true
	}
	return d.trust(ctx, m, conn)
}

// reading logs on and reads the host once.
func (d *Doctor) reading(ctx context.Context, h Host) []Finding {
	var report sessions.Report
	var err error
	logon := func() verdict {
		ctx, cancel := context.WithTimeout(ctx, d.cfg.ReadTimeout)
		defer cancel()
		if report, err = h.Reader.Read(ctx); err != nil {
			return verdictOf(err)
		}
		return accepted
	}
	if m := h.Management; m.Credential != "" {
		refusedBy, waited := d.credentials.get(m.Credential).try(ctx, h.Name, logon)
		switch {
		case waited != nil:
			return []Finding{failure(CheckLogon, "not tried: %v", waited)}
		case refusedBy != "":
			return []Finding{warning(CheckLogon, "not tried: %s has refused the same account, %s, and each further try could lock it out", refusedBy, m.User).
				advise("mend that first; to ask this host all the same: rdpbroker doctor %s", h.Name)}
		}
	} else {
		logon()
	}
	if err != nil {
		return h.explain(err)
	}
	return append([]Finding{h.letIn()}, h.judge(report)...)
}

func (h Host) letIn() Finding {
	switch k := h.Management.Kind; {
	case k == XRDPLocal:
		return ok(CheckLogon, "commands run on this machine")
	case k.ssh():
		return ok(CheckLogon, "%s is let in; the host's key is that in %s", h.Management.User, h.Management.KnownHosts)
	}
	return ok(CheckLogon, "%s is let in", h.Management.User)
}
