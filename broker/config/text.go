package config

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// account is DOMAIN\user, user@domain or a bare user.
type account sessions.Account

// UnmarshalText reads one exact account: no pattern, nothing unprintable.
func (a *account) UnmarshalText(b []byte) error {
	const expected = `an account such as 'CONTOSO\alice' or alice`
	parsed := sessions.ParseAccount(string(b))
	switch {
	case parsed.IsZero():
		return &wordError{what: "names nobody", allowed: expected}
	case strings.ContainsAny(string(b), "*?"):
		return &wordError{what: "is a pattern", allowed: expected}
	case len(b) > 256 || strings.ContainsFunc(string(b), unprintable):
		return &wordError{what: "is not an account", allowed: expected}
	}
	*a = account(parsed)
	return nil
}

// pattern is a glob that placement.Glob can use.
type pattern string

func (p *pattern) UnmarshalText(b []byte) error {
	const expected = `a pattern such as svc-* or 'CONTOSO\adm-?'`
	switch {
	case len(b) == 0:
		return &wordError{what: "matches nothing", allowed: expected}
	case len(b) > 256 || strings.ContainsFunc(string(b), unprintable) || !placement.ValidGlob(string(b)):
		return &wordError{what: "is not a pattern", allowed: expected}
	}
	*p = pattern(b)
	return nil
}

// window is a time of the week.
type window placement.Window

func (w *window) UnmarshalText(b []byte) error {
	parsed, err := placement.ParseWindow(string(b))
	if err != nil {
		return &wordError{what: "is no time of the week", allowed: "such as 'Mon-Fri 07:00-19:00', 'Sat,Sun 10:00-14:00' or '22:00-06:00'"}
	}
	*w = window(parsed)
	return nil
}

// network is an address range, or one address.
type network netip.Prefix

func (n *network) UnmarshalText(b []byte) error {
	if ip, err := parseAddr(string(b)); err == nil {
		*n = network(netip.PrefixFrom(ip, ip.BitLen()))
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if err != nil {
		return &wordError{what: "is not a network", allowed: "a network such as 10.1.0.0/16, or one address"}
	}
	if p != p.Masked() {
		return &wordError{what: "has bits set beyond its length", allowed: "did you mean " + p.Masked().String() + "?"}
	}
	*n = network(p)
	return nil
}

// tokenID is the ID of a routing token, as rdpbroker token prints it.
type tokenID string

func (t *tokenID) UnmarshalText(b []byte) error {
	if raw, err := hex.DecodeString(string(b)); err != nil || len(raw) != 8 {
		return &wordError{what: "is not the ID of a token", allowed: "16 hexadecimal digits, as rdpbroker token prints them"}
	}
	*t = tokenID(bytes.ToLower(b))
	return nil
}

// instant is a moment, or the beginning of a day in UTC.
type instant time.Time

func (i *instant) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			*i = instant(t.UTC())
			return nil
		}
	}
	return &wordError{what: "is not a time", allowed: "a day such as 2026-11-27, which begins in UTC, or a moment such as 2026-11-27T08:00:00Z"}
}

// parseAddr reads an address without a zone; IPv4 in IPv6 form becomes IPv4.
func parseAddr(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, &wordError{what: "is not an address", allowed: "an address such as 10.1.2.3"}
	}
	return ip.Unmap(), nil
}

// hostPort reads host:port, host, or an IPv6 address with or without brackets,
// and returns it as net.Dial takes it. Without a port, port holds; 0 asks for one.
func hostPort(s string, port int) (string, error) {
	const expected = "an address such as ts1.contoso.example:3389"
	if strings.Contains(s, "://") {
		return "", &wordError{what: "is a URL", allowed: expected}
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		host, text = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), strconv.Itoa(port)
		if port == 0 {
			return "", &wordError{what: "has no port", allowed: expected}
		}
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostName(host) && (host != "" || port != 0) {
		return "", &wordError{what: "is not an address", allowed: expected}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 && port != 0 {
		return "", &wordError{what: "has no valid port", allowed: "1 to 65535"}
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// hostName reports whether s can be a name in DNS or NetBIOS.
func hostName(s string) bool {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r) {
			return false
		}
	}
	return s != "" && len(s) <= 253 && strings.Trim(s, ".-") != ""
}

// label reports whether s can name a farm or a host: it stands in logs, metrics
// and on command lines.
func label(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)) {
			return false
		}
	}
	return s != "" && len(s) <= 64 && s[0] != '-'
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
