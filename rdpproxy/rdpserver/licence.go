package rdpserver

import "encoding/binary"

// validClient is the whole of licensing for a server that issues none: a
// License Error PDU that says STATUS_VALID_CLIENT ([MS-RDPBCGR] 2.2.1.12).
func validClient() []byte {
	const (
		securityLicence   = 0x0080
		licensingError    = 0xff
		version3          = 0x03
		statusValidClient = 7
		noTransition      = 2
		errorBlob         = 4
	)
	le := binary.LittleEndian
	b := le.AppendUint16(nil, securityLicence)
	b = le.AppendUint16(b, 0) // flagsHi
	b = append(b, licensingError, version3)
	b = le.AppendUint16(b, 16) // length from the message type on
	b = le.AppendUint32(b, statusValidClient)
	b = le.AppendUint32(b, noTransition)
	b = le.AppendUint16(b, errorBlob)
	return le.AppendUint16(b, 0) // an empty blob
}
