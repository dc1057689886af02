package x224

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"unicode/utf16"
)

const (
	// MaxPacket is the largest Connection Request that is taken, TPKT header
	// included. A correct one has at most 259 bytes, because the length indicator
	// is a byte; clients with long names exceed that and let it wrap around.
	MaxPacket = 512

	// MaxOpening is the longest opening: a preconnection blob and a request.
	MaxOpening = maxBlob + MaxPacket

	maxBlob = 2048 // a bound of ours; the specification has none
	blobV1  = 16   // cbSize, Flags, Version, Id
	blobV2  = 18   // the same and cchPCB
)

// Opening is all that a client says before the host's first answer.
type Opening struct {
	// Preconnection is the blob in front of the request, nil if there was none.
	Preconnection *Preconnection
	Request       *Request
}

// Preconnection is an RDP_PRECONNECTION_PDU, [MS-RDPEPS] 2.2.1. It addresses
// the machine in the middle: an ordinary host does not expect it.
type Preconnection struct {
	Version uint32 // 1 or 2
	ID      uint32
	// Payload is the text of a version 2 blob (pcb:s: in an .rdp file), up to
	// its first NUL. Half surrogate pairs have become U+FFFD.
	Payload string
}

// ReadOpening reads a preconnection blob, if there is one, and the Connection
// Request behind it: exactly these, never a byte more. It allocates no more
// than 3 KiB. The caller sets deadlines.
//
// Errors: a *FormatError if the bytes are no RDP opening; io.EOF if not one
// byte came; any other error of r wrapped, io.ErrUnexpectedEOF if the stream
// ended halfway.
func ReadOpening(r io.Reader) (*Opening, error) {
	var head [tpktHeader]byte
	if err := readHead(r, &head); err != nil {
		return nil, err
	}
	o := new(Opening)
	if head[0] != tpktVersion {
		// The length of a blob is even, so its first byte is never TPKT's 3.
		blob, err := readBlob(r, head)
		if err != nil {
			return nil, err
		}
		o.Preconnection = blob
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, unexpected(err, "the request after a preconnection blob")
		}
	}
	packet, err := readTPKTBody(r, head, MaxPacket)
	if err != nil {
		return nil, err
	}
	if o.Request, err = ParseRequest(packet); err != nil {
		return nil, err
	}
	return o, nil
}

// ErrIncomplete says that bytes are the beginning of an opening, and more must come.
var ErrIncomplete = errors.New("the opening is not complete")

// ParseOpening is ReadOpening for whoever cannot wait inside a Read: b is what has
// come so far, and n how much of it is the opening. The error is ErrIncomplete, or a
// *FormatError as soon as b cannot become an opening. With MaxOpening bytes it is
// never ErrIncomplete.
func ParseOpening(b []byte) (o *Opening, n int, err error) {
	r := bytes.NewReader(b)
	o, err = ReadOpening(r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, 0, ErrIncomplete
	}
	if err != nil {
		return nil, 0, err
	}
	return o, len(b) - r.Len(), nil
}

// readBlob reads the rest of the blob whose cbSize is head.
func readBlob(r io.Reader, head [4]byte) (*Preconnection, error) {
	size := binary.LittleEndian.Uint32(head[:])
	switch {
	case size > maxBlob:
		return nil, malformed(foreign(head[:]), "the first bytes are %x", head)
	case size == 0:
		return nil, malformed(KindNotTPKT, "the first bytes are %x", head)
	case size < blobV1 || size%2 != 0:
		return nil, malformed(KindBadBlob, "preconnection blob of %d bytes", size)
	}
	b := make([]byte, size)
	copy(b, head[:])
	if _, err := io.ReadFull(r, b[len(head):]); err != nil {
		return nil, unexpected(err, "a preconnection blob")
	}
	return parseBlob(b)
}

// parseBlob reads a whole blob; b has the even length, at least 16, that its
// first field tells.
func parseBlob(b []byte) (*Preconnection, error) {
	flags, version := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	if flags != 0 {
		return nil, malformed(KindBadBlob, "preconnection blob with flags %#x", flags)
	}
	p := &Preconnection{Version: version, ID: binary.LittleEndian.Uint32(b[12:])}
	switch {
	case version == 1 && len(b) == blobV1:
	case version == 2 && len(b) >= blobV2:
		n := int(binary.LittleEndian.Uint16(b[blobV1:]))
		if blobV2+2*n != len(b) {
			return nil, malformed(KindBadBlob, "preconnection blob of %d bytes with %d characters", len(b), n)
		}
		p.Payload = decodeUTF16(b[blobV2:])
	default:
		return nil, malformed(KindBadBlob, "preconnection blob of version %d and %d bytes", version, len(b))
	}
	return p, nil
}

// Append appends the blob as it goes over the wire. Version 1 has no payload;
// any other version is written as 2, with one terminating NUL. A blob of more
// than 2 KiB is more than ReadOpening takes.
func (p *Preconnection) Append(dst []byte) []byte {
	le := binary.LittleEndian
	if p.Version == 1 {
		dst = le.AppendUint32(dst, blobV1)
		dst = le.AppendUint32(dst, 0)
		dst = le.AppendUint32(dst, 1)
		return le.AppendUint32(dst, p.ID)
	}
	text := append(utf16.Encode([]rune(p.Payload)), 0)
	dst = le.AppendUint32(dst, uint32(blobV2+2*len(text)))
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, 2)
	dst = le.AppendUint32(dst, p.ID)
	dst = le.AppendUint16(dst, uint16(len(text)))
	for _, u := range text {
		dst = le.AppendUint16(dst, u)
	}
	return dst
}

// decodeUTF16 decodes little-endian text up to its first NUL.
func decodeUTF16(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	if i := slices.Index(units, 0); i >= 0 {
		units = units[:i]
	}
	return string(utf16.Decode(units))
}
