package rdpserver

import (
	"bytes"
	"strings"
	"testing"
)

// infoPacket is a Client Info PDU without the extended part.
func infoPacket(flags int, encode func(string) []byte, domain, user, password, program, dir string) []byte {
	var sizes []int
	var strs []byte
	for _, s := range []string{domain, user, password, program, dir} {
		b := encode(s)
		terminator := len(encode(""))
		sizes = append(sizes, len(b)-terminator)
		strs = append(strs, b...)
	}
	return concat(words(securityInfo, 0xbeef), dwords(0, flags), words(sizes...), strs)
}

func ansi(s string) []byte { return append([]byte(s), 0) }

func TestPasswordIsAskedAboutAndWiped(t *testing.T) {
	for _, test := range []struct {
		name     string
		packet   []byte
		user     string
		password string
	}{
		{"Unicode", infoPacket(infoUnicode, encodeUTF16, "CONTOSO", "zoë", "pässwörd€𝄞", "calc.exe", `C:\`), "zoë", "pässwörd€𝄞"},
		{"Windows-1252", infoPacket(0, ansi, "CONTOSO", "zo\xeb", "p\xe4ssw\x80rd", "calc.exe", `C:\`), "zoë", "pässw€rd"},
	} {
		for _, right := range []bool{true, false} {
			var seen string
			var kept []byte
			client, conn := passwordClient(t, test.packet, func(user, domain string, password []byte) bool {
				if user != test.user || domain != "CONTOSO" {
					t.Errorf("asked about %q in %q", user, domain)
				}
				seen, kept = string(password), password
				return right
			})
			info := conn.Info()
			if seen != test.password {
				t.Errorf("%s: asked about %q", test.name, seen)
			}
			if !bytes.Equal(kept, make([]byte, len(kept))) {
				t.Errorf("%s: the password is still there: %q", test.name, kept)
			}
			if !info.HasPassword || info.PasswordOK != right || info.Program != "calc.exe" || info.WorkingDir != `C:\` {
				t.Errorf("%s: %+v", test.name, info)
			}
			// Nor is it in the buffer that it was read into.
			for _, secret := range [][]byte{encodeUTF16(test.password)[:8], []byte("ssw")} {
				if bytes.Contains(conn.frames, secret) {
					t.Errorf("%s: the password is still in the buffer", test.name)
				}
			}
			client.Close()
		}
	}
}

// passwordClient logs on with a Client Info PDU of its own.
func passwordClient(t *testing.T, info []byte, check func(user, domain string, password []byte) bool) (*mstsc, *Conn) {
	t.Helper()
	nc, result := handshake(t, t.Context(), Config{TLS: testTLS(t), CheckPassword: check})
	client := connect(t, nc)
	client.joinChannels()
	client.send(clientPacket(info))
	r := <-result
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.conn.Close() })
	return client, r.conn
}

func TestNobodyIsAskedWithoutPassword(t *testing.T) {
	_, conn := passwordClient(t, infoPacket(infoUnicode, encodeUTF16, "", "u", "", "", ""),
		func(string, string, []byte) bool { t.Error("asked"); return true })
	if info := conn.Info(); info.HasPassword || info.PasswordOK {
		t.Errorf("%+v", info)
	}
}

func TestInfoStrings(t *testing.T) {
	longest := strings.Repeat("x", maxInfoString/2)
	info, err := parseClientInfo(infoPacket(infoUnicode, encodeUTF16, longest, longest, longest, longest, longest))
	if err != nil || info.user != longest || info.workingDir != longest {
		t.Errorf("%v", err)
	}
	if _, err := parseClientInfo(infoPacket(infoUnicode, encodeUTF16, "", longest+"x", "", "", "")); err == nil {
		t.Error("a longer one was taken")
	}
	// Some clients count the terminator.
	packet := infoPacket(infoUnicode, encodeUTF16, "", "u\x00", "", "", "")
	if info, err = parseClientInfo(packet); err != nil || info.user != "u" {
		t.Errorf("%q, %v", info.user, err)
	}
	// Half a surrogate pair is no character.
	broken := bytes.Replace(packet, []byte{'u', 0}, []byte{0x00, 0xd8}, 1)
	if info, err = parseClientInfo(broken); err != nil || info.user != "\ufffd" {
		t.Errorf("%q, %v", info.user, err)
	}
}
