package tlswatch

// Record types, RFC 8446 appendix B.1 and RFC 5246 appendix A.1.
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplicationData  = 23
)

const (
	headerLen = 5
	// maxRecord is the largest record that TLS 1.2 allows, RFC 5246 6.2.3.
	maxRecord = 1<<14 + 2048
)

// record is what the header of a TLS record says.
type record struct {
	kind   byte
	length int // of what follows the header
}

// records finds the record headers in one direction of a TLS connection, however
// the bytes are cut into pieces.
type records struct {
	header [headerLen]byte
	have   int // bytes of the header
	left   int // bytes of the body that have not come yet
}

// next takes the first bytes of b: up to the end of a header, which it returns
// with begun true; or of the body that came before. ok is false if the bytes are no
// header of a TLS record.
func (r *records) next(b []byte) (body, rest []byte, rec record, begun, ok bool) {
	if r.left > 0 {
		n := min(r.left, len(b))
		r.left -= n
		return b[:n], b[n:], record{}, false, true
	}
	n := copy(r.header[r.have:], b)
	r.have += n
	if r.have < headerLen {
		return nil, b[n:], record{}, false, true
	}
	r.have = 0
	h := r.header
	rec = record{kind: h[0], length: int(h[3])<<8 | int(h[4])}
	r.left = rec.length
	ok = rec.kind >= typeChangeCipherSpec && rec.kind <= typeApplicationData && h[1] == 3 && rec.length <= maxRecord
	return nil, b[n:], rec, true, ok
}
