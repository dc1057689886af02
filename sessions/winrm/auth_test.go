package winrm

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodgit/ntlmssp"

	"github.com/rdpbroker/rdpbroker/sessions/lockout"
)

func TestNTLMKeepsOneConnection(t *testing.T) {
	for _, plain := range []bool{false, true} {
		f := says(fakeResult{stdout: "x", code: "0"})
		f.plain = plain
		f.start(t)
		d := f.driver()
		for range 3 {
			if out, err := d.client.run(t.Context(), "quser.exe"); err != nil || out.stdout != "x" {
				t.Fatalf("plain %v: %+v, %v", plain, out, err)
			}
		}
		if f.hellos != 1 || f.refusals != 0 {
			t.Errorf("plain %v: %d handshakes, %d refusals", plain, f.hellos, f.refusals)
		}
		if len(f.leaked) > 0 {
			t.Errorf("plain %v: sent before the host had accepted us: %q", plain, f.leaked)
		}
	}
}

func TestRefusedPassword(t *testing.T) {
	for _, basic := range []bool{false, true} {
		f := &fakeHost{password: "another", basic: basic}
		f.start(t)
		d := f.driver(func(c *Config) { c.Basic = basic })
		for range 3 {
			_, err := d.client.run(t.Context(), "quser.exe")
			var refused *AuthError
			if !errors.As(err, &refused) {
				t.Fatalf("basic %v: got %v", basic, err)
			}
			if wait := refused.RetryAfter(); wait < lockout.Pause-time.Minute {
				t.Errorf("basic %v: retry after %v", basic, wait)
			}
			if strings.Contains(err.Error(), fakePassword) {
				t.Error("the error tells the password")
			}
		}
		if f.refusals != 1 {
			t.Errorf("basic %v: the password was offered %d times", basic, f.refusals)
		}
	}
}

// A changed password is tried at once, and opens the gate.
func TestChangedPasswordIsTried(t *testing.T) {
	f := says(fakeResult{code: "0"}).start(t)
	password := "wrong"
	d := f.driver(func(c *Config) { c.Password = func() (string, error) { return password, nil } })
	if _, err := d.client.run(t.Context(), "quser.exe"); err == nil {
		t.Fatal("no error")
	}
	password = fakePassword
	for range 2 {
		if _, err := d.client.run(t.Context(), "quser.exe"); err != nil {
			t.Fatal(err)
		}
	}
	if f.refusals != 1 || f.hellos != 2 {
		t.Errorf("%d refusals, %d handshakes", f.refusals, f.hellos)
	}
}

func TestUnreadablePassword(t *testing.T) {
	f := says(fakeResult{code: "0"}).start(t)
	gone := errors.New("file is gone")
	d := f.driver(func(c *Config) { c.Password = func() (string, error) { return "", gone } })
	if _, err := d.client.run(t.Context(), "quser.exe"); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if f.hellos != 0 {
		t.Error("the host was asked without a password")
	}
}

// Pitfall: falling back to Basic. Whoever offers only that gets neither the
// password nor a message.
func TestNeverDowngradesToBasic(t *testing.T) {
	for _, plain := range []bool{false, true} {
		for _, schemes := range [][]string{{`Basic realm="WSMAN"`}, {}, {"Kerberos"}, {`Basic realm="WSMAN"`, "NTLM"}} {
			f := &fakeHost{plain: plain, basic: true, schemes: schemes}
			f.start(t)
			_, err := f.driver().client.run(t.Context(), "quser.exe")
			var refused *AuthError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), "does not do NTLM") {
				t.Errorf("%q: got %v", schemes, err)
			}
			if f.basicSeen > 0 || len(f.leaked) > 0 {
				t.Errorf("%q: %d times Basic, messages %q", schemes, f.basicSeen, f.leaked)
			}
		}
	}
}

func TestBasicOverTLS(t *testing.T) {
	f := says(fakeResult{stdout: "x", code: "0"})
	f.basic = true
	f.start(t)
	d := f.driver(func(c *Config) { c.Basic = true })
	if out, err := d.client.run(t.Context(), "quser.exe"); err != nil || out.stdout != "x" {
		t.Fatalf("%+v, %v", out, err)
	}
	if f.hellos != 0 || f.basicSeen != 4 {
		t.Errorf("%d NTLM handshakes, %d times Basic", f.hellos, f.basicSeen)
	}
}

// A connection may be logged out by the host; one new logon goes on.
func TestLoggedOutInTheMiddle(t *testing.T) {
	f := says(fakeResult{stdout: "x", code: "0"})
	f.intercept = func(_ http.ResponseWriter, _ *http.Request, a string, _ int) bool {
		if a == "Command" {
			f.mu.Lock()
			f.dropAuth = true
			f.mu.Unlock()
		}
		return false
	}
	f.start(t)
	if out, err := f.driver().client.run(t.Context(), "quser.exe"); err != nil || out.stdout != "x" {
		t.Fatalf("%+v, %v", out, err)
	}
	if f.hellos != 2 || f.count("Receive") != 1 {
		t.Errorf("%d handshakes, %d Receives", f.hellos, f.count("Receive"))
	}
}

// Over plain HTTP nothing goes unsealed, and nothing unsealed is believed.
func TestPlainHTTPIsSealed(t *testing.T) {
	f := says(fakeResult{stdout: "x", code: "0"})
	f.plain, f.flags = true, challengeFlags&^0x20 // somebody stripped "seal"
	f.start(t)
	_, err := f.driver().client.run(t.Context(), "quser.exe")
	var refused *AuthError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "seal") {
		t.Errorf("got %v", err)
	}
	if f.count("Create") != 0 {
		t.Error("a message was sent")
	}

	f = says(fakeResult{stdout: "x", code: "0"})
	f.plain = true
	f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, _ int) bool {
		if a != "Receive" {
			return false
		}
		plain := w.(*sealingWriter)
		writeSOAP(plain.ResponseWriter, 200, "ReceiveResponse", `<rsp:ReceiveResponse/>`)
		return true
	}
	f.start(t)
	if _, err := f.driver().client.run(t.Context(), "quser.exe"); !errors.Is(err, errNotSealed) {
		t.Errorf("got %v", err)
	}
}

func TestSealedFaults(t *testing.T) {
	f := says(fakeResult{code: "0"})
	f.plain = true
	f.intercept = func(w http.ResponseWriter, _ *http.Request, a string, _ int) bool {
		if a == "Command" {
			writeFault(w, FaultTooManyOperations, "w:QuotaLimit", "zu viele")
		}
		return a == "Command"
	}
	f.start(t)
	_, err := f.driver().client.run(t.Context(), "quser.exe")
	var fault *Fault
	if !errors.As(err, &fault) || fault.Code != FaultTooManyOperations {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefusesMalformedAnswers(t *testing.T) {
	ntlm, err := ntlmssp.NewClient(ntlmssp.SetUserInfo("u", "p"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ntlm.Authenticate(nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := ntlm.Authenticate(newNTLMServer(nil, challengeFlags).challenge, nil); err != nil {
		t.Fatal(err)
	}
	s := &sealer{session: ntlm.SecuritySession()}
	for _, body := range []string{
		"", octets, octets + boundary + "--", octets + "\xff\xff\xff\xff" + strings.Repeat("x", 16) + boundary + "--",
		octets + "\x10\x00\x00\x00" + strings.Repeat("x", 40) + boundary + "--",
	} {
		if b, err := s.open(sealedType, []byte(body)); err == nil {
			t.Errorf("%q was opened as %q", body, b)
		}
	}
	if _, err := s.open("text/html", nil); !errors.Is(err, errNotSealed) {
		t.Errorf("got %v", err)
	}
}

// The certificate is checked against the CA and the name, always.
func TestCertificateIsVerified(t *testing.T) {
	f := says(fakeResult{code: "0"}).start(t)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"CA and address", func(*Config) {}, true},
		{"CA and other name in the certificate", func(c *Config) { c.ServerName = "example.com" }, true},
		{"system roots", func(c *Config) { c.CA = nil }, false},
		{"wrong name", func(c *Config) { c.ServerName = "rds1.contoso.example" }, false},
	} {
		_, err := f.driver(tt.change).client.run(t.Context(), "quser.exe")
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v", tt.name, err)
		}
		var unknown x509.UnknownAuthorityError
		var name x509.HostnameError
		if !tt.ok && !errors.As(err, &unknown) && !errors.As(err, &name) {
			t.Errorf("%s: the error %v hides its cause", tt.name, err)
		}
	}
}

// Channel bindings must follow the certificate's own hash.
func TestChannelBindings(t *testing.T) {
	if channelBindings(&conn{}) != nil {
		t.Error("bindings without TLS")
	}
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	to := &target{addr: srv.Listener.Addr().String(), tls: &tls.Config{RootCAs: poolOf(srv), ServerName: "127.0.0.1"}, dial: new(net.Dialer).DialContext}
	cn, err := to.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cn.close()
	if cb := channelBindings(cn); cb == nil || !strings.HasPrefix(string(cb.ApplicationData), "tls-server-end-point:") || len(cb.ApplicationData) != 21+32 {
		t.Errorf("got %+v", cb)
	}
}

func poolOf(srv *httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(srv.Certificate())
	return p
}

// shortFlags is a challenge with MsvAvFlags of two bytes, of which the NTLM
// library reads four.
func shortFlags() []byte {
	return newNTLMServer(nil, challengeFlags, 6, 0, 2, 0, 0xff, 0xff).challenge
}

// What a host may answer to the two steps of a logon besides what it should.
func TestOddLogons(t *testing.T) {
	challenge := func(w http.ResponseWriter, token string) {
		w.Header().Set("WWW-Authenticate", "Negotiate "+token)
		w.WriteHeader(http.StatusUnauthorized)
	}
	good := base64.StdEncoding.EncodeToString(newNTLMServer(nil, challengeFlags).challenge)
	for _, tt := range []struct {
		name  string
		steps []func(w http.ResponseWriter)
		want  string
		auth  bool // an *AuthError
	}{
		{"no challenge but a success", []func(http.ResponseWriter){func(w http.ResponseWriter) {}}, "HTTP status 200", false},
		{"forbidden", []func(http.ResponseWriter){func(w http.ResponseWriter) { w.WriteHeader(403) }}, "HTTP status 403", false},
		{"a challenge that is not base64", []func(http.ResponseWriter){func(w http.ResponseWriter) { challenge(w, "###") }}, "garbled", true},
		{"a challenge that is none", []func(http.ResponseWriter){func(w http.ResponseWriter) { challenge(w, "aGFsbG8=") }}, "NTLM challenge", false},
		{"a challenge that the library chokes on", []func(http.ResponseWriter){func(w http.ResponseWriter) {
			challenge(w, base64.StdEncoding.EncodeToString(shortFlags()))
		}}, "malformed", false},
		{"the connection closes after the challenge", []func(http.ResponseWriter){func(w http.ResponseWriter) {
			w.Header().Set("Connection", "close")
			challenge(w, good)
		}}, "between the steps", false},
		{"refused with something else", []func(http.ResponseWriter){func(w http.ResponseWriter) { challenge(w, good) }, func(w http.ResponseWriter) { w.WriteHeader(503) }}, "HTTP status 503", false},
		{"the connection closes after the logon", []func(http.ResponseWriter){func(w http.ResponseWriter) { challenge(w, good) }, func(w http.ResponseWriter) {
			w.Header().Set("Connection", "close")
		}}, "after the logon", false},
		{"another challenge", []func(http.ResponseWriter){func(w http.ResponseWriter) { challenge(w, good) }, func(w http.ResponseWriter) { challenge(w, good) }}, "refused the user name", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var step atomic.Int32
			srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := int(step.Add(1)) - 1
				if r.ContentLength != 0 {
					t.Errorf("step %d has a body", n)
				}
				if n < len(tt.steps) {
					tt.steps[n](w)
					return
				}
				t.Errorf("step %d", n)
			}))
			defer srv.Close()
			f := &fakeHost{t: t, srv: srv}
			_, err := f.driver().client.run(t.Context(), "quser.exe")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			var refused *AuthError
			if errors.As(err, &refused) != tt.auth {
				t.Errorf("got %T", errors.Unwrap(err))
			}
		})
	}
}

func TestBindingHash(t *testing.T) {
	for a, want := range map[x509.SignatureAlgorithm]crypto.Hash{
		x509.SHA1WithRSA: crypto.SHA256, x509.MD5WithRSA: crypto.SHA256, x509.SHA256WithRSA: crypto.SHA256, x509.ECDSAWithSHA256: crypto.SHA256,
		x509.SHA384WithRSA: crypto.SHA384, x509.ECDSAWithSHA384: crypto.SHA384, x509.SHA512WithRSAPSS: crypto.SHA512, x509.PureEd25519: 0,
	} {
		if got := bindingHash(a); got != want {
			t.Errorf("%v: %v, want %v", a, got, want)
		}
	}
}

// Whatever a host sends as its challenge, it is an error and not a panic.
func FuzzChallenge(f *testing.F) {
	good := newNTLMServer(nil, challengeFlags).challenge
	f.Add(good)
	f.Add(good[:40])
	f.Add(shortFlags())
	f.Fuzz(func(t *testing.T, challenge []byte) {
		ntlm, err := ntlmssp.NewClient(ntlmssp.SetUserInfo("u", "p"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ntlm.Authenticate(nil, nil); err != nil {
			t.Fatal(err)
		}
		canSeal(challenge)
		answerChallenge(ntlm, challenge, nil)
	})
}
