package rdpserver

import (
	"encoding/binary"
	"fmt"
)

// Sizes of a TS_LOGON_INFO, [MS-RDPBCGR] 2.2.10.1.1.1.
const (
	infoTypeLogon  = 0
	logonDomainLen = 52
	logonUserLen   = 512
)

// LoggedOn tells the client that the user has logged on to a session, as Windows
// does ([MS-RDPBCGR] 3.3.5.10). Before it a client cannot know a desktop from a
// logon screen. It needs an active client: ErrNotActive.
func (c *Conn) LoggedOn(domain, user string, sessionID uint32) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if !c.active.Load() {
		return ErrNotActive
	}
	if err := c.writeLocked(sessionInfoPacket(domain, user, sessionID)); err != nil {
		return fmt.Errorf("telling the client of its logon: %w", err)
	}
	return nil
}

// sessionInfoPacket is a Save Session Info PDU, [MS-RDPBCGR] 2.2.10.1.
func sessionInfoPacket(domain, user string, sessionID uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, infoTypeLogon)
	for _, field := range []struct {
		text string
		size int
	}{{domain, logonDomainLen}, {user, logonUserLen}} {
		text := encodeUTF16(field.text)
		if len(text) > field.size {
			text = append(text[:field.size-2:field.size-2], 0, 0)
		}
		b = le.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
		b = append(b, make([]byte, field.size-len(text))...)
	}
	b = le.AppendUint32(b, sessionID)
	return dataIndication(shareData(dataSaveSessionInfo, streamLow, 0, b))
}
