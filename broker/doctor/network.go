package doctor

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
)

// rdp is what users meet.
func (d *Doctor) rdp(ctx context.Context, h Host) []Finding {
	name, found := d.resolve(ctx, CheckName, h.Addr)
	if !found {
		return []Finding{name}
	}
	all := []Finding{name}
	result, err := d.cfg.Reach(ctx, h.Addr, reach.Options{Names: d.cfg.Names, Timeout: d.cfg.ConnectTimeout, Now: d.cfg.Now()})
	findings := result.Findings()
	for i, f := range findings {
		check := CheckRDP
		if i >= len(findings)-len(result.Names) { // they come last
			check = CheckBrokerName
		}
		all = append(all, Finding{Check: check, Level: f.Level, Text: f.Text, Advice: f.Advice})
	}
	if err != nil && result.ConnectError == "" {
		all = append(all, failure(CheckRDP, "not examined to the end: %v", err))
	}
	return all
}

// resolve looks up the name in addr, host:port. found is false if nothing can be
// reached under it.
func (d *Doctor) resolve(ctx context.Context, c Check, addr string) (f Finding, found bool) {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return failure(c, "%q is no address: %v", addr, err), false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return ok(c, "%s is an address, no name to look up", name), true
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	addrs, err := d.cfg.Lookup(ctx, name)
	switch {
	case err != nil:
		return failure(c, "the name %s cannot be looked up: %v", name, err).
			advise("check the host's address in broker.yaml, and the DNS servers of this machine"), false
	case len(addrs) == 0:
		return failure(c, "the name %s has no address", name).
			advise("give it an A or AAAA record, or write the host's IP address into broker.yaml"), false
	}
	return ok(c, "%s is %s", name, strings.Join(addrs, ", ")), true
}

// connect makes a TCP connection to the management port. conn is nil if it
// could not, else the caller closes it.
func (d *Doctor) connect(ctx context.Context, m Management) (conn net.Conn, f Finding) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	what, advice := "WinRM", "on the host: winrm enumerate winrm/config/listener, and a firewall rule that lets the broker's address in; deploy/windows/prepare-host.ps1 makes both"
	switch {
	case m.Kind == WindowsRPC:
		what, advice = "SMB, which carries the RPC,", "on the host: the service LanmanServer, and the firewall rule File and Printer Sharing (SMB-In) for the broker's address"
	case m.Kind.ssh():
		what, advice = "ssh", "check that sshd runs on the host and that its firewall lets the broker's address in"
	case m.PlainHTTP:
		what, advice = "WinRM over plain HTTP", "on the host: winrm quickconfig, and a firewall rule that lets the broker's address in"
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", m.Addr)
	if err != nil {
		return nil, failure(CheckManagement, "%s does not answer at %s: %v", what, m.Addr, err).advise("%s", advice)
	}
	return conn, ok(CheckManagement, "%s can be reached at %s", what, m.Addr)
}
