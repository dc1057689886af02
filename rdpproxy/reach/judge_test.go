package reach

import (
	"strings"
	"testing"
	"time"
)

func TestCertificateFindings(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	good := Certificate{Subject: "CN=h", Issuer: "CN=ca", Key: "RSA 2048", SHA256: "ab", NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 2, 0)}
	for _, tt := range []struct {
		name  string
		edit  func(*Certificate)
		level Level
		text  string
	}{
		{"good", func(*Certificate) {}, LevelOK, "valid until 2026-07-01"},
		{"no names", func(c *Certificate) { c.Subject = "" }, LevelOK, "certificate without a subject, RSA 2048, SHA-256 ab"},
		{"names", func(c *Certificate) { c.DNSNames, c.Addresses = []string{"a", "b"}, []string{"10.0.0.7"} }, LevelOK, "CN=h for a, b, 10.0.0.7, RSA"},
		{"soon over", func(c *Certificate) { c.NotAfter = now.AddDate(0, 0, 13) }, LevelWarning, "expires on 2026-05-14"},
		{"over", func(c *Certificate) { c.NotAfter = now.Add(-time.Second) }, LevelFailure, "expired on 2026-05-01"},
		{"not yet", func(c *Certificate) { c.NotBefore = now.Add(time.Hour) }, LevelFailure, "not valid before 2026-05-01"},
		{"weak", func(c *Certificate) { c.Weak, c.Signature = true, "SHA1-RSA" }, LevelWarning, "weak: RSA 2048, SHA1-RSA"},
		{"self-signed", func(c *Certificate) { c.SelfSigned = true }, LevelWarning, "signed by itself"},
	} {
		c := good
		tt.edit(&c)
		found := false
		for _, f := range c.findings(now) {
			found = found || f.Level == tt.level && strings.Contains(f.Text, tt.text) && (f.Level == LevelOK || f.Advice != "")
		}
		if !found {
			t.Errorf("%s: no %s %q in %+v", tt.name, tt.level, tt.text, c.findings(now))
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		cert Certificate
		name string
		want bool
	}{
		{Certificate{CommonName: "HOST1"}, "host1", true},
		{Certificate{CommonName: "host1.corp.example"}, "HOST1.corp.example", true},
		{Certificate{CommonName: "host1"}, "host1.corp.example", false},
		{Certificate{CommonName: "host1", DNSNames: []string{"rdp.example"}}, "host1", false},
		{Certificate{CommonName: "host1", DNSNames: []string{"rdp.example"}}, "rdp.example", true},
		{Certificate{CommonName: "host1", Addresses: []string{"10.0.0.7"}}, "10.0.0.7", true},
		{Certificate{CommonName: "host1", Addresses: []string{"fd00::7"}}, "fd00:0::7", true},
		{Certificate{CommonName: "10.0.0.7"}, "10.0.0.7", false},
		{Certificate{DNSNames: []string{"*.example"}}, "rdp.example", true},
		{Certificate{DNSNames: []string{"*.example"}}, "a.rdp.example", false},
		{Certificate{}, "host1", false},
		{Certificate{CommonName: "host1"}, "", false},
	} {
		if got := tt.cert.Covers(tt.name); got != tt.want {
			t.Errorf("%+v, %q: %t", tt.cert, tt.name, got)
		}
	}
}

// A host that has no answer for weak clients is not lost for the others.
func TestErrorsOfWeakOffers(t *testing.T) {
	for offer, want := range map[Offer]Level{
		OfferHybridEx: LevelFailure, OfferHybrid: LevelFailure, OfferSSL: LevelWarning, OfferRDP: LevelWarning,
	} {
		if f := (Answer{Offer: offer, Error: "closed"}).finding(); f.Level != want || f.Advice == "" {
			t.Errorf("%s: %+v, want %s", offer, f, want)
		}
	}
}

// A host cannot write on the operator's terminal.
func TestSummaryIsPrintable(t *testing.T) {
	r := Result{Remote: "10.0.0.7:3389", TLS: &TLS{Version: "TLS 1.3", Chain: []Certificate{{Subject: "CN=\x1b[2J\r\nok"}}}}
	var out strings.Builder
	if err := r.Summary(&out); err != nil || strings.ContainsAny(out.String(), "\x1b\r") || strings.Contains(out.String(), "\nok") {
		t.Errorf("%q, %v", out.String(), err)
	}
}
