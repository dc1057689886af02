package config

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// builder makes a Config of what was decoded, and checks what one key alone does
// not tell: references, conflicts, and what is risky.
type builder struct {
	*decoder
	machine machine
	keys    fileKeys
	folder  string // that relative file names start from
}

// config is the whole configuration; of use only if there are no problems.
func (b *builder) config() *Config {
	k := &b.keys
	b.sharedEviction()
	return &Config{
		Listeners:    b.listeners(),
		Admin:        b.admin(),
		Log:          Log(k.Log),
		Audit:        b.audit(),
		StateFile:    b.file("state_file", k.StateFile),
		Limits:       Limits(k.Limits),
		DrainTimeout: k.DrainTimeout,
		KeepAlive:    KeepAlive(k.KeepAlive),
		Farms:        b.farms(),
		Identity:     b.identity(),
	}
}

func (b *builder) listeners() []Listener {
	var out []Listener
	taken := make(map[string]path)
	farms := slices.Sorted(maps.Keys(b.keys.Farms))
	used := make(map[string]bool)
	for i, k := range b.keys.Listen {
		p := path("listen").index(i)
		l := Listener{Address: b.address(p.key("address"), k.Address, 0), Farm: k.Farm}
		if !strings.HasSuffix(l.Address, ":0") { // 0 is any free port
			b.once(taken, p.key("address"), l.Address, "is used twice")
		}
		if used[k.Farm] = true; len(farms) > 0 && !slices.Contains(farms, k.Farm) {
			b.bad(p.key("farm"), "there is no farm "+quote(k.Farm), instead(k.Farm, farms))
		}
		l.ProxyProtocol = b.networks(p.key("proxy_protocol"), k.ProxyProtocol,
			"may claim to be any client")
		out = append(out, l)
	}
	for _, name := range farms {
		if !used[name] {
			b.warn(path("farms").key(name), "no listener leads to this farm")
		}
	}
	return out
}

// networks are the networks at p; those that take in half the world get a
// warning that says what their hosts may do.
func (b *builder) networks(p path, ks []network, may string) []netip.Prefix {
	var out []netip.Prefix
	for i, n := range ks {
		prefix := netip.Prefix(n)
		if prefix.IsValid() && prefix.Bits() < 8 {
			b.warn(p.index(i), fmt.Sprintf("%s is very large: whoever is in it %s", prefix, may))
		}
		out = append(out, prefix)
	}
	return out
}

func (b *builder) admin() Admin {
	const longest = 103 // sun_path in unix(7) holds 107 bytes, and while it is made the socket is called path.new
	k := b.keys.Admin
	a := Admin{Socket: k.Socket}
	if host, _, err := net.SplitHostPort(k.Socket); err == nil && !strings.ContainsAny(k.Socket, `/\`) && len(host) != 1 {
		b.bad("admin.socket", "is a TCP address", "it needs the path of a Unix socket: there are no passwords, the folder's permissions guard it")
	} else if a.Socket = b.file("admin.socket", k.Socket); len(a.Socket) > longest {
		b.bad("admin.socket", "is too long", fmt.Sprintf("%d bytes at most", longest))
	}
	if k.Metrics != "" {
		a.Metrics = b.address("admin.metrics", k.Metrics, 0)
		if host, _, err := net.SplitHostPort(a.Metrics); err == nil && !loopback(host) {
			b.warn("admin.metrics", quote(k.Metrics)+" can be reached from other machines: names of hosts and farms are open to whoever connects")
		}
	}
	b.adminListen(&a)
	return a
}

// adminListen is the part of admin: that the page needs.
func (b *builder) adminListen(a *Admin) {
	k := b.keys.Admin
	local := true
	if k.Listen != "" {
		a.Listen = b.address("admin.listen", k.Listen, 0)
		if host, _, err := net.SplitHostPort(a.Listen); err == nil {
			local = loopback(host)
		}
	}
	a.CertFile, a.KeyFile = b.existing("admin.cert_file", k.CertFile), b.private("admin.key_file", k.KeyFile)
	a.PeopleFile = b.private("admin.people_file", k.PeopleFile)
	a.Header = http.CanonicalHeaderKey(k.TrustedHeader.Name)
	a.HeaderFrom = b.networks("admin.trusted_header.from", k.TrustedHeader.From, "can say who asks")
	switch {
	case (a.CertFile == "") != (a.KeyFile == ""):
		b.bad("admin.cert_file", "goes with admin.key_file", "give both or none")
	case a.CertFile == "" && !local:
		b.bad("admin.listen", quote(k.Listen)+" can be reached from other machines, in plain text", "a loopback address such as 127.0.0.1:9840, or cert_file and key_file")
	}
	switch {
	case a.Header == "" && len(a.HeaderFrom) == 0:
	case a.Header == "":
		b.bad("admin.trusted_header.name", "is missing", "the header in which the proxy says who asks, such as X-Forwarded-User")
	case strings.ContainsAny(a.Header, " \t:"):
		b.bad("admin.trusted_header.name", quote(k.TrustedHeader.Name)+" is not the name of a header", "such as X-Forwarded-User")
	case len(a.HeaderFrom) == 0:
		b.bad("admin.trusted_header.from", "is missing", "the networks of the proxies that may say who asks")
	case a.PeopleFile == "":
		b.bad("admin.trusted_header", "needs admin.people_file", "that says which role each person has")
	}
}

// address is the host and port that s, given at p, stands for; "" after a problem.
func (b *builder) address(p path, s string, port int) string {
	a, err := hostPort(s, port)
	if err != nil {
		b.illegible(p, s, err)
		return ""
	}
	return a
}

// source is where key was given: in the first of the blocks that has it, else it
// belongs into the first.
func (b *builder) source(key string, blocks ...path) path {
	for _, p := range blocks {
		if _, ok := b.at[p.key(key)]; ok {
			return p.key(key)
		}
	}
	return blocks[0].key(key)
}

// illegible notes that the text s at p could not be read.
func (b *builder) illegible(p path, s string, err error) {
	what, allowed := explain(s, err)
	b.bad(p, what, allowed)
}

// name checks that s, at p, can name a farm or a host.
func (b *builder) name(p path, s string) {
	if !label(s) {
		b.bad(p, quote(s)+" is not a name", "up to 64 letters, digits, and . _ -")
	}
}

// accountAt reads the account that stands as a key at p.
func (b *builder) accountAt(p path, s string) account {
	var a account
	if err := a.UnmarshalText([]byte(s)); err != nil {
		b.illegible(p, s, err)
	}
	return a
}
