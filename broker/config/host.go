package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/rdpbroker/rdpbroker/sessions"
)

var tris = map[string]sessions.Tri{"auto": sessions.Unknown, "yes": sessions.Yes, "no": sessions.No}

// host is the host at p of the farm.
func (b *builder) host(p path, k *hostKeys, farm string) Host {
	h := Host{Host: sessions.Host{
		Name:              k.Name,
		Farm:              farm,
		Slots:             k.Slots,
		CountDisconnected: tris[k.CountDisconnected],
		Weight:            k.Weight,
		Draining:          k.Drain,
	}}
	if b.given(p.key("name")) {
		b.name(p.key("name"), k.Name)
	}
	switch {
	case b.given(p.key("address")):
		h.Addr = b.address(p.key("address"), k.Address, portRDP)
	case b.given(p.key("name")) && !b.failed[p.key("address")]:
		h.Addr = b.address(p.key("name"), k.Name, portRDP) // a name that can be looked up is address enough
	}
	var ways []string
	for _, way := range []struct {
		key   string
		given bool
	}{{"winrm", k.WinRM.given()}, {"ssh", k.SSH.given()}, {"rpc", k.RPC.given()}, {"xrdp", k.XRDP.given()}} {
		if way.given {
			ways = append(ways, way.key)
		}
	}
	switch {
	case len(ways) == 0:
		b.bad(p, "it is not said how this host is read", "it needs winrm:, ssh:, rpc: or xrdp:, which may be empty if defaults: has the rest")
	case len(ways) > 1:
		b.bad(p.key(ways[1]), "a host is read in one way only", "take out "+strings.Join(ways[:len(ways)-1], ", ")+" or "+ways[len(ways)-1])
	case k.WinRM.given():
		h.WinRM = b.winrm(p.key("winrm"), k.WinRM.over(b.decoder, b.keys.Defaults.WinRM), h.Addr)
		if k.Slots == 0 && h.WinRM.Mode == "text" {
			b.bad(p.key("slots"), "is missing", "with mode: text a Windows host does not tell how many sessions it takes: write the number")
		}
	case k.SSH.given():
		w := k.SSH.over(b.decoder, b.keys.Defaults.SSH)
		h.SSH = &WindowsSSH{SSH: *b.ssh(p.key("ssh"), "defaults.ssh", w.sshKeys, h.Addr), Timeout: w.Timeout, Processes: w.Processes}
	case k.RPC.given():
		h.RPC = b.rpc(p.key("rpc"), k.RPC.over(b.decoder, b.keys.Defaults.RPC), h.Addr)
	default:
		h.XRDP = b.xrdp(p.key("xrdp"), k.XRDP.over(b.decoder, b.keys.Defaults.XRDP), h.Addr)
	}
	return h
}

// sharedWinRM and sharedSSH are where keys for all hosts stand.
const (
	sharedWinRM path = "defaults.winrm"
	sharedSSH   path = "defaults.xrdp.ssh"
)

func (b *builder) winrm(p path, k winrmKeys, addr string) *WinRM {
	const shared = sharedWinRM
	w := &WinRM{
		URL:          b.endpoint(p.key("address"), &k, addr),
		User:         k.User,
		Password:     b.secret(k.secretKeys, p, shared),
		Auth:         k.Auth,
		Mode:         k.Mode,
		CAFile:       b.existing(b.source("ca_file", p, shared), k.CAFile),
		ServerName:   k.ServerName,
		Poll:         k.Poll,
		Timeout:      k.Timeout,
		Processes:    k.Processes,
		TextEviction: k.TextEviction,
	}
	if k.User == "" {
		b.bad(b.source("user", p, shared), "is missing", "here or in "+string(shared))
	}
	if w.Password.IsZero() && !b.noPassword(p, shared) {
		b.bad(p.key("password_file"), "is missing", "password_file or password_env, here or in "+string(shared))
	}
	switch {
	case k.PlainHTTP && k.Auth == "basic":
		b.bad(b.source("plain_http", p, shared), "with auth: basic the password would be sent in clear text", "use https, or auth: ntlm")
	case k.PlainHTTP:
		b.warn(b.source("plain_http", p, shared), "messages are sealed by NTLM alone: from a recorded logon a weak password can be guessed")
	}
	if k.TextEviction {
		b.warn(b.source("text_eviction", p, shared), "sessions may be logged off on what quser prints, which tells the time of a disconnect to the minute at best")
	}
	return w
}

// endpoint is the URL of the host's WinRM service: what is written at p, or
// made of the address that the host speaks RDP at.
func (b *builder) endpoint(p path, k *winrmKeys, addr string) string {
	scheme, port := "https", portWinRMHTTPS
	if k.PlainHTTP {
		scheme, port = "http", portWinRMHTTP
	}
	if k.Address == "" {
		host, _, _ := net.SplitHostPort(addr)
		return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/wsman"
	}
	if !strings.Contains(k.Address, "://") {
		return scheme + "://" + b.address(p, k.Address, port) + "/wsman"
	}
	u, err := url.Parse(k.Address)
	switch {
	case err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https":
		b.bad(p, "is not the address of a WinRM service", "such as https://ts1.contoso.example:5986")
		return ""
	case u.User != nil:
		b.bad(p, "holds a user name or a password", "use user and password_file")
		return ""
	case u.Scheme != scheme && !k.PlainHTTP:
		b.bad(p, quote(k.Address)+" is not encrypted", "use https, or plain_http: true where that cannot be")
	case u.Scheme != scheme:
		b.bad(p, quote(k.Address)+" contradicts plain_http: true", "use http, or take plain_http out")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(port))
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/wsman"
	}
	return u.Scheme + "://" + b.address(p, u.Host, port) + u.EscapedPath()
}

func (b *builder) rpc(p path, k rpcKeys, addr string) *RPC {
	const shared path = "defaults.rpc"
	r := &RPC{
		User:     k.User,
		Password: b.secret(k.secretKeys, p, shared),
		Auth:     k.Auth,
		Realm:    k.Realm,
		Krb5Conf: b.existing(b.source("krb5_conf", p, shared), k.Krb5Conf),
		Keytab:   b.private(b.source("keytab", p, shared), k.Keytab),
		Poll:     k.Poll,
		Timeout:  k.Timeout,
	}
	if k.Address != "" {
		r.Address = b.address(p.key("address"), k.Address, portSMB)
	} else if host, _, err := net.SplitHostPort(addr); err == nil {
		r.Address = net.JoinHostPort(host, strconv.Itoa(portSMB))
	}
	if k.User == "" {
		b.bad(b.source("user", p, shared), "is missing", "here or in "+string(shared))
	}
	if r.Password.IsZero() && r.Keytab == "" && !b.noPassword(p, shared) {
		b.bad(p.key("password_file"), "is missing", "password_file or password_env, or a keytab for auth: kerberos, here or in "+string(shared))
	}
	if k.Auth != "kerberos" {
		for key, text := range map[string]string{"realm": k.Realm, "krb5_conf": k.Krb5Conf, "keytab": k.Keytab} {
			if text != "" {
				b.bad(b.source(key, p, shared), "is for Kerberos", "write auth: kerberos, or take it out")
			}
		}
	}
	return r
}

func (b *builder) xrdp(p path, k xrdpKeys, addr string) *XRDP {
	x := &XRDP{CommandPrefix: k.CommandPrefix, Poll: k.Poll, Timeout: k.Timeout}
	for i, word := range k.CommandPrefix {
		if word == "" || strings.ContainsFunc(word, unprintable) {
			b.bad(p.key("command_prefix").index(i), quote(word)+" is not a word of a command", "such as [sudo, -n]")
		}
	}
	const shared = sharedSSH
	ownSSH, ownLocal := b.given(p.key("ssh")), b.given(p.key("local"))
	ssh := ownSSH || b.given(shared)
	if ownSSH != ownLocal { // the host's own word overrules defaults
		ssh, k.Local = ownSSH || ssh && !k.Local, ownLocal && k.Local
	}
	switch {
	case k.Local && ssh:
		b.bad(b.source("local", p, "defaults.xrdp"), "local: true and ssh exclude each other", "take one out")
	case ssh:
		x.SSH = b.ssh(p.key("ssh"), shared, k.SSH, addr)
	case !k.Local:
		b.bad(p, "it is not said how commands get there", "it needs ssh: or local: true, here or in defaults.xrdp")
	}
	return x
}

func (b *builder) ssh(p, shared path, k sshKeys, addr string) *SSH {
	s := &SSH{
		User:       k.User,
		KeyFile:    b.private(b.source("key_file", p, shared), k.KeyFile),
		Password:   b.secret(k.secretKeys, p, shared),
		KnownHosts: b.existing(b.source("known_hosts", p, shared), k.KnownHosts),
	}
	if k.Address != "" {
		s.Address = b.address(b.source("address", p, shared), k.Address, portSSH)
	} else if host, _, err := net.SplitHostPort(addr); err == nil {
		s.Address = net.JoinHostPort(host, strconv.Itoa(portSSH))
	}
	if k.User == "" {
		b.bad(b.source("user", p, shared), "is missing", "here or in "+string(shared))
	}
	if k.KnownHosts == "" {
		b.bad(b.source("known_hosts", p, shared), "is missing", "a file with the host's key, as ssh-keyscan prints it: without it anybody could answer")
	}
	if s.KeyFile == "" && s.Password.IsZero() && !b.noPassword(p, shared) {
		b.bad(p.key("key_file"), "is missing", "key_file, password_file or password_env, here or in "+string(shared))
	}
	return s
}
