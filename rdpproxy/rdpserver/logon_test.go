package rdpserver

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestSessionInfoPacket(t *testing.T) {
	for _, c := range []struct {
		name, domain, user       string
		domainBytes, userBytes   uint32
		wantDomain, wantUserName string
	}{
		{"short", "CONTOSO", "alice", 16, 12, "CONTOSO", "alice"},
		{"none", "", "alice", 2, 12, "", "alice"},
		{"cut", strings.Repeat("d", 40), strings.Repeat("u", 400), 52, 512, strings.Repeat("d", 25), strings.Repeat("u", 255)},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := sessionInfoPacket(c.domain, c.user, 7)
			// infoType, and a TS_LOGON_INFO of 4+52+4+512+4 bytes, whatever the names.
			body := p[len(p)-580:]
			if p[len(p)-580-4] != byte(dataSaveSessionInfo) {
				t.Fatalf("pduType2 is %#x", p[len(p)-580-4])
			}
			le := binary.LittleEndian
			if le.Uint32(body) != 0 || le.Uint32(body[4:]) != c.domainBytes || le.Uint32(body[60:]) != c.userBytes || le.Uint32(body[576:]) != 7 {
				t.Errorf("fields: % x", body[:64])
			}
			if d, u := decodeUTF16(body[8:60]), decodeUTF16(body[64:576]); d != c.wantDomain || u != c.wantUserName {
				t.Errorf("domain %q, user %q", d, u)
			}
			if !bytes.HasSuffix(body[8:60], []byte{0, 0}) {
				t.Error("the domain does not end in NUL")
			}
		})
	}
}
