package simhost

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"testing"
	"time"

	"github.com/bodgit/ntlmssp"
)

// The vector of [MS-NLMP] 4.2.4.1.1.
func TestNTOWFv2(t *testing.T) {
	if got := hex.EncodeToString(ntowfV2("Password", "User", "Domain")); got != "0c868a403bfd7a93a3001ef22ef02e3f" {
		t.Error(got)
	}
}

// handshake is what a client by others answers to a challenge.
func handshake(t testing.TB, password string) (c *ntlmChallenge, answer []byte) {
	t.Helper()
	client, err := ntlmssp.NewClient(ntlmssp.SetUserInfo("svc", password), ntlmssp.SetDomain("CONTOSO"))
	if err != nil {
		t.Fatal(err)
	}
	hello, err := client.Authenticate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err = newNTLMChallenge(hello, "essen", [8]byte{1, 2, 3}, newClock().now)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err = client.Authenticate(c.challenge, nil); err != nil {
		t.Fatal(err)
	}
	return c, answer
}

func verifySvc(c *ntlmChallenge, answer []byte) (*ntlmSession, error) {
	return c.verify(answer, nil, func(_, user string) (string, bool) { return "secret", user == "svc" })
}

func TestNTLM(t *testing.T) {
	c, answer := handshake(t, "secret")
	if s, err := verifySvc(c, answer); err != nil || s.domain != "CONTOSO" || s.user != "svc" || len(s.key) != 16 {
		t.Errorf("the right password: %+v, %v", s, err)
	}
	other, wrong := handshake(t, "Secret")
	if _, err := verifySvc(other, wrong); err == nil {
		t.Error("a wrong password was accepted")
	}
	c.nonce[0]++
	if _, err := verifySvc(c, answer); err == nil {
		t.Error("the answer to another challenge was accepted")
	}
}

func TestNTLMNoticesChanges(t *testing.T) {
	c, answer := handshake(t, "secret")
	for _, change := range []func(){
		func() { answer[60] ^= 0x10 },      // a flag of the third message
		func() { c.negotiate[12] ^= 0x10 }, // of the first
		func() { c.challenge[20] ^= 0x20 }, // of the second
	} {
		change()
		if _, err := verifySvc(c, answer); err == nil {
			t.Error("a changed message was accepted")
		}
		change()
	}
	if _, err := verifySvc(c, answer); err != nil {
		t.Errorf("the original: %v", err)
	}
}

func TestNTLMChannelBindings(t *testing.T) {
	for _, c := range []struct {
		client, server string
		ok             bool
	}{{"", "", true}, {"", "a", true}, {"a", "a", true}, {"b", "a", false}, {"a", "", true}} {
		certs := map[string][]byte{}
		var bound *ntlmssp.ChannelBindings
		for _, name := range []string{"a", "b"} {
			cfg, err := SelfSigned(time.Now(), name)
			if err != nil {
				t.Fatal(err)
			}
			certs[name] = channelBindings(cfg)
			if name == c.client {
				bound = &ntlmssp.ChannelBindings{ApplicationData: endPoint(cfg)}
			}
		}
		client, err := ntlmssp.NewClient(ntlmssp.SetUserInfo("svc", "secret"), ntlmssp.SetDomain("CONTOSO"))
		if err != nil {
			t.Fatal(err)
		}
		hello, _ := client.Authenticate(nil, nil)
		challenge, err := newNTLMChallenge(hello, "essen", [8]byte{}, newClock().now)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Authenticate(challenge.challenge, bound)
		if err != nil {
			t.Fatal(err)
		}
		_, err = challenge.verify(answer, certs[c.server], func(_, _ string) (string, bool) { return "secret", true })
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSealedMessagesCannotBeChanged(t *testing.T) {
	session := &ntlmSession{key: make([]byte, 16), flags: ntlmSeal | ntlmKeyExchange | ntlmExtendedSecurity | ntlm128}
	for _, at := range []int{-1, 0, 11} { // nothing, the text, its signature
		host, client := newSealer(session), newSealer(session)
		// The client's two directions are the host's, exchanged.
		client.in, client.out, client.inSign, client.outSign = client.out, client.in, client.outSign, client.inSign
		sealed := client.close([]byte("<x/>"))
		end := bytes.LastIndex(sealed, []byte(sealedBoundary))
		switch at {
		case 0:
			sealed[end-1] ^= 1
		case 11:
			sealed[end-4-12] ^= 1
		}
		if got, err := host.open(sealed); (err == nil) != (at < 0) || (at < 0 && string(got) != "<x/>") {
			t.Errorf("changed at %d: %q, %v", at, got, err)
		}
	}
	if newSealer(&ntlmSession{key: make([]byte, 16), flags: ntlmSeal}) != nil {
		t.Error("seals without key exchange")
	}
}

func FuzzNTLM(f *testing.F) {
	c, answer := handshake(f, "secret")
	f.Add(answer)
	f.Add(c.negotiate)
	f.Add(c.challenge)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = newNTLMChallenge(b, "essen", [8]byte{}, time.Time{})
		if s, err := verifySvc(c, b); err == nil && s.user != "svc" {
			t.Errorf("%q was let in", s.user)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`<E><Header><Action>` + nsTransfer + `/Create</Action><OperationTimeout>PT20.5S</OperationTimeout></Header><Body><Shell/></Body></E>`))
	f.Add([]byte(`<E><Body><Identify/></Body></E>`))
	f.Add([]byte(`<`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil && (r.action == "" || r.timeout < 0) {
			t.Errorf("%q is read as %+v", b, r)
		}
	})
}

func FuzzCommandLine(f *testing.F) {
	for _, line := range []string{`cmd /v:on /c "quser 2>&1 & echo !errorlevel!"`, "a^&b>nul||c", `"`, "exit /b x", "call call echo %^errorlevel%", "2>", "cmd cmd /c"} {
		f.Add(line)
	}
	h, err := New(Config{Name: "essen", WinRM: WinRM{Managers: []Manager{broker}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		runLine(t, h, line, false)
		runLine(t, h, line, true)
	})
}

// endPoint is the application data of tls-server-end-point, RFC 5929.
func endPoint(cfg *tls.Config) []byte {
	sum := sha256.Sum256(cfg.Certificates[0].Leaf.Raw)
	return append([]byte(ntlmssp.TLSServerEndPoint+":"), sum[:]...)
}
