package rdpproxy

import (
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// refuse counts and logs a connection that ended before its first packet was
// complete. There may be very many of these, so they are for debugging only.
func (c *conn) refuse(kind string, err error) {
	c.p.observe.Refused(c.listener.Name, kind)
	if entry := c.p.log.Check(zapcore.DebugLevel, "connection refused"); entry != nil {
		entry.Write(zap.String("listener", c.listener.Name), zap.Stringer("client", c.client), zap.String("kind", kind), zap.Error(err))
	}
}

// logEnd writes the one line that every connection with a first packet gets.
// ended says why it got no host; "" if it had one.
func (c *conn) logEnd(to relayed, ended string, out Outcome) {
	if ended == "" {
		ended = "connection ended"
	}
	if entry := c.p.log.Check(zapcore.InfoLevel, ended); entry != nil {
		entry.Write(zap.Inline(&ending{c, to.host, to.why, out}))
	}
}

// ending is the fields of that line, all in one: a slice of them would be the largest
// thing that a short connection leaves to the garbage collector.
type ending struct {
	*conn
	host, why string
	out       Outcome
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *ending) MarshalLogObject(to zapcore.ObjectEncoder) error {
	relay := &e.out.Relay
	err := relay.Err
	if e.out.DialError != nil {
		err = e.out.DialError
	}
	to.AddString("listener", e.listener.Name)
	to.AddString("client", e.client.String())
	to.AddString("identity", e.identity)
	to.AddString("host", e.host)
	to.AddString("why", e.why)
	to.AddInt64("to_host", relay.ToHost)
	to.AddInt64("to_client", relay.ToClient)
	to.AddDuration("duration", time.Since(e.accepted))
	to.AddString("closer", relay.Closer)
	zap.Error(err).AddTo(to)
	return nil
}

// caller is what the first packet says of its sender, fit for a log: quoted and
// short. A token may be a secret that opens a session; of those, no more is shown
// than tells two of them apart.
func caller(o *x224.Opening) string {
	r := o.Request
	switch {
	case r.HasCookie:
		return quoted("mstshash=", r.Cookie)
	case r.Token != nil:
		token := string(r.Token)
		if ap, ok := x224.ParseMSTSToken(r.Token); ok {
			return "msts=" + ap.String()
		}
		if strings.HasPrefix(token, "tsv:") || strings.HasPrefix(token, "mth:") { // names of collections, desktops
			return "token " + quote(token)
		}
		return "token " + quote(token[:min(len(token), len("Cookie: msts=")+4)]) + "…"
	case o.Preconnection != nil:
		return "preconnection " + quote(o.Preconnection.Payload)
	}
	return "none"
}

// quote makes text of a stranger harmless for logs, and bounded.
func quote(s string) string { return quoted("", s) }

// quoted is quote behind a word of ours.
func quoted(word, s string) string {
	const most = 64
	var room [128]byte // enough for most
	b := append(room[:0], word...)
	if len(s) > most {
		return string(append(strconv.AppendQuoteToASCII(b, s[:most]), "…"...))
	}
	return string(strconv.AppendQuoteToASCII(b, s))
}
