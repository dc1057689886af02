package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/rdpbroker/rdpbroker/broker/audit"
)

// audit is what the keys of audit: say.
func (b *builder) audit() Audit {
	k := b.keys.Audit
	r := k.Rotate
	return Audit{
		File:    b.file("audit.file", k.File),
		Rotate:  Rotate{Size: int64(r.Size), Age: r.Age, Keep: r.Keep, Files: r.Files, Compress: r.Compress},
		Webhook: b.webhook(),
	}
}

func (b *builder) webhook() *Webhook {
	const p path = "audit.webhook"
	k := b.keys.Audit.Webhook
	if k.URL == "" {
		if k.SecretFile != "" || b.given(p.key("events")) {
			b.bad(p.key("url"), "is missing", "it says where the messages go")
		}
		return nil
	}
	w := &Webhook{
		URL:         b.webhookURL(p.key("url"), k),
		Secret:      Secret{File: b.private(p.key("secret_file"), k.SecretFile)},
		Timeout:     k.Timeout,
		Tries:       k.Tries,
		Undelivered: b.file(p.key("undelivered"), k.Undelivered),
		CAFile:      b.existing(p.key("ca_file"), k.CAFile),
	}
	if k.SecretFile == "" {
		b.warn(p, "there is no secret_file: the receiver cannot tell the broker's messages from anybody else's")
	}
	if len(k.Events) == 0 && !b.failed[p.key("events")] {
		b.bad(p.key("events"), "is empty", "take it out for the default, or take url out")
	}
	for _, e := range k.Events {
		w.Events = append(w.Events, audit.Event(e))
	}
	return w
}

// webhookURL is the address at p, if messages may be sent there.
func (b *builder) webhookURL(p path, k webhookKeys) string {
	u, err := url.Parse(k.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https":
		b.bad(p, "is not the address of a webhook", "such as https://alerts.contoso.example/rdpbroker")
	case u.User != nil:
		b.bad(p, "holds a user name or a password", "sign with secret_file")
	case u.Scheme == "http" && !k.PlainHTTP && !loopback(u.Hostname()):
		b.bad(p, "is not encrypted", "use https, or plain_http: true where that cannot be: messages tell who works where")
	}
	return k.URL
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// event is a word of the audit.
type event audit.Event

func (e *event) UnmarshalText(b []byte) error {
	var words []string
	for _, x := range audit.Events() {
		if x != audit.Noted { // which only the files know of
			words = append(words, string(x))
		}
	}
	if !slices.Contains(words, string(b)) {
		return &wordError{what: "is not an event", allowed: "one of " + strings.Join(words, ", ")}
	}
	*e = event(b)
	return nil
}
