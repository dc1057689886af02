package rdpserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxFrame is the largest packet taken from a client, headers included. The
// length of an MCS Send Data Request cannot exceed 16383, and real clients
// send no more than 2 KiB.
const maxFrame = 16 << 10

const (
	tpktVersion = 3
	// headerLen is a TPKT header (4) and an X.224 Data header (3).
	headerLen = 7
)

// frame is one packet from the client: an X.224 Data packet with an MCS PDU
// inside, or fast-path input.
type frame struct {
	fastPath bool
	// header is the first byte of fast-path input: action, event count, flags.
	header byte
	// body is what follows the headers. It is valid until the next readFrame.
	body []byte
}

// readFrame reads one packet into buf, which must hold maxFrame bytes. begun is
// called after its first byte, when the client is no longer merely silent.
// io.EOF means that the stream ended between packets.
func readFrame(r io.Reader, buf []byte, begun func()) (frame, error) {
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return frame{}, err
	}
	begun()
	read := func(from, to int) error {
		_, err := io.ReadFull(r, buf[from:to])
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if buf[0] != tpktVersion {
		return readFastPath(buf, read)
	}
	if err := read(1, headerLen); err != nil {
		return frame{}, err
	}
	n := int(binary.BigEndian.Uint16(buf[2:]))
	if n < headerLen || n > maxFrame {
		return frame{}, fmt.Errorf("TPKT length %d is not between %d and %d", n, headerLen, maxFrame)
	}
	// X.224 class 0 Data: length indicator 2, DT, end of TSDU.
	if buf[4] != 2 || buf[5] != 0xf0 {
		return frame{}, fmt.Errorf("X.224 header % x is not Data", buf[4:headerLen])
	}
	if err := read(headerLen, n); err != nil {
		return frame{}, err
	}
	return frame{body: buf[headerLen:n]}, nil
}

// readFastPath reads the rest of a Client Fast-Path Input Event PDU, [MS-RDPBCGR] 2.2.8.1.2.
func readFastPath(buf []byte, read func(from, to int) error) (frame, error) {
	const encrypted, checksummed = 0x80, 0x40
	header := buf[0]
	if header&0x03 != 0 {
		return frame{}, fmt.Errorf("a packet begins with %#02x: neither TPKT nor fast-path input", header)
	}
	if header&(encrypted|checksummed) != 0 {
		return frame{}, errors.New("encrypted fast-path input inside TLS")
	}
	if err := read(1, 2); err != nil {
		return frame{}, err
	}
	start, n := 2, int(buf[1])
	if buf[1]&0x80 != 0 {
		if err := read(2, 3); err != nil {
			return frame{}, err
		}
		start, n = 3, int(buf[1]&0x7f)<<8|int(buf[2])
	}
	if n < start || n > maxFrame {
		return frame{}, fmt.Errorf("fast-path length %d is not between %d and %d", n, start, maxFrame)
	}
	if err := read(start, n); err != nil {
		return frame{}, err
	}
	return frame{fastPath: true, header: header, body: buf[start:n]}, nil
}

// dataPacket wraps an MCS PDU in TPKT and X.224 Data headers.
func dataPacket(pdu []byte) []byte {
	b := make([]byte, 0, headerLen+len(pdu))
	b = append(b, tpktVersion, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(headerLen+len(pdu)))
	b = append(b, 2, 0xf0, 0x80)
	return append(b, pdu...)
}
