package tsts

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// WINSTATIONINFORMATION, [MS-TSTS] 2.2.2.18 and winsta.h in 6.5, as it is laid
// out on 32 and 64 bit: a state, a name of 33 characters, the ID, four times of
// which the first is aligned to 8 bytes, 1012 bytes of protocol counters, a
// domain of 18 and a user of 21 characters, and the host's time.
const (
	infoSize       = 1216
	infoName       = 4
	infoID         = 72
	infoDisconnect = 88
	infoLastInput  = 96
	infoLogon      = 104
	infoDomain     = 1124
	infoUser       = 1160
	infoCurrent    = 1208
)

// parseInformation reads a WINSTATIONINFORMATION and the host's time in it, a FILETIME.
func parseInformation(b []byte) (s sessions.Session, now int64, err error) {
	if len(b) < infoSize {
		return s, 0, fmt.Errorf("a WINSTATIONINFORMATION of %d bytes", len(b))
	}
	at := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[i:])) }
	s = sessions.Session{
		ID:             int(int32(binary.LittleEndian.Uint32(b[infoID:]))),
		Name:           text(chars(b[infoName:], 33)),
		State:          stateOf(int32(binary.LittleEndian.Uint32(b))),
		Account:        sessions.Account{Domain: text(chars(b[infoDomain:], 18)), User: text(chars(b[infoUser:], 21))},
		LogonAt:        timeOf(at(infoLogon)),
		DisconnectedAt: timeOf(at(infoDisconnect)),
		LastInputAt:    timeOf(at(infoLastInput)),
		Incarnation:    incarnationOf(at(infoLogon)),
	}
	if s.Account.User == "" {
		s.Account = sessions.Account{}
	}
	return s, at(infoCurrent), nil
}

// logonIDSize is the size of a LOGONID, [MS-TSTS] 2.2.1.12: the ID, a name of 33
// characters, and the state, aligned.
const logonIDSize = 76

// parseLogonIDs reads n LOGONID structures.
func parseLogonIDs(b []byte, n int) ([]sessions.Session, error) {
	if n < 0 || n > len(b)/logonIDSize {
		return nil, errors.New("fewer LOGONID structures than announced")
	}
	list := make([]sessions.Session, 0, n)
	for ; n > 0; n-- {
		list = append(list, sessions.Session{
			ID:    int(int32(binary.LittleEndian.Uint32(b))),
			Name:  text(chars(b[4:], 33)),
			State: stateOf(int32(binary.LittleEndian.Uint32(b[72:]))),
		})
		b = b[logonIDSize:]
	}
	return list, nil
}

// chars are n little-endian UTF-16 characters.
func chars(b []byte, n int) []uint16 {
	c := make([]uint16, n)
	for i := range c {
		c[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return c
}
