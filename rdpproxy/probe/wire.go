// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

// wire is one connection to the host, first bare, then perhaps under TLS. It
// reads and writes whole packets. Every wait ends with the context.
type wire struct {
	raw  net.Conn
	conn net.Conn // raw, or TLS over it
	in   *bufio.Reader
	stop func() bool
}

// dialWire connects to addr. The caller must close the wire. ctx must have a
// deadline, which is that of all reads and writes.
func dialWire(ctx context.Context, addr string) (*wire, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			raw.Close()
			return nil, err
		}
	}
	w := &wire{raw: raw, conn: raw, in: bufio.NewReader(raw)}
	w.stop = context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	return w, nil
}

// Close ends the connection; the host keeps the session, disconnected.
func (w *wire) Close() error {
	w.stop()
	return w.raw.Close()
}

// negotiate sends the Connection Request and returns the host's answer. It
// must be the first use of the wire.
func (w *wire) negotiate(r *x224.Request) (*x224.Confirm, error) {
	if _, err := w.conn.Write(r.Append(nil)); err != nil {
		return nil, fmt.Errorf("sending the connection request: %w", err)
	}
	// Not through w.in, which might read on: TLS may follow.
	packet, err := x224.ReadTPKT(w.conn, x224.MaxPacket)
	if err != nil {
		return nil, fmt.Errorf("the host's answer to the connection request: %w", err)
	}
	c, err := x224.ParseConfirm(packet)
	if err != nil {
		return nil, fmt.Errorf("the host's answer to the connection request: %w", err)
	}
	return c, nil
}

// startTLS encrypts the wire. Certificates are not verified: RDP hosts sign
// their own, and CredSSP verifies the key in another way.
func (w *wire) startTLS(ctx context.Context, serverName string) (*TLS, *x509.Certificate, error) {
	conn := tls.Client(w.raw, &tls.Config{
		ServerName:         serverName,
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10, // Windows Server 2008 R2
		CipherSuites:       everyCipher(),
		// Hosts want a CredSSP message in one record.
		DynamicRecordSizingDisabled: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	state := conn.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return nil, nil, errors.New("TLS: the host has no certificate")
	}
	cert := state.PeerCertificates[0]
	sum := sha256.Sum256(cert.Raw)
	w.conn, w.in = conn, bufio.NewReader(conn)
	return &TLS{
		Version: tls.VersionName(state.Version),
		Cipher:  tls.CipherSuiteName(state.CipherSuite),
		SHA256:  hex.EncodeToString(sum[:]),
	}, cert, nil
}

// everyCipher is all that crypto/tls can do, the deprecated ones too: a probe
// must reach what mstsc reaches.
func everyCipher() []uint16 {
	var ids []uint16
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, c.ID)
	}
	return ids
}

// Read and Write are the stream under the packets, for CredSSP.
func (w *wire) Read(b []byte) (int, error)  { return w.in.Read(b) }
func (w *wire) Write(b []byte) (int, error) { return w.conn.Write(b) }

// readUntil limits the wait for the next packets to t, which must not be after
// the context's deadline.
func (w *wire) readUntil(t time.Time) error { return w.raw.SetReadDeadline(t) }

// packet is what the host sent: a slow-path X.224 data TPDU without its header,
// or a fast-path PDU.
type packet struct {
	fastPath bool
	flags    uint8 // of a fast-path PDU: secure checksum 1, encrypted 2
	data     []byte
}

// Flags of a packet, [MS-RDPBCGR] 2.2.9.1.2.
const (
	fastPathSalted    = 0x1
	fastPathEncrypted = 0x2
)

// readPacket reads the next packet of either kind.
func (w *wire) readPacket() (packet, error) {
	var head [4]byte
	if _, err := io.ReadFull(w.in, head[:2]); err != nil {
		return packet{}, err
	}
	switch head[0] & 0x03 {
	case 3:
		if _, err := io.ReadFull(w.in, head[2:4]); err != nil {
			return packet{}, err
		}
		data, err := w.readBody(int(binary.BigEndian.Uint16(head[2:])) - 4)
		if err != nil {
			return packet{}, err
		}
		if len(data) < 3 || data[1] != 0xf0 { // X.224 data TPDU: 02 F0 80
			return packet{}, fmt.Errorf("not an X.224 data packet: % x", data[:min(len(data), 8)])
		}
		return packet{data: data[3:]}, nil
	case 0:
		length, header := int(head[1]), 2
		if length&0x80 != 0 {
			low, err := w.in.ReadByte()
			if err != nil {
				return packet{}, err
			}
			length, header = length&0x7f<<8|int(low), 3
		}
		data, err := w.readBody(length - header)
		return packet{fastPath: true, flags: head[0] >> 6, data: data}, err
	}
	return packet{}, fmt.Errorf("neither a TPKT nor a fast-path packet: first byte %#x", head[0])
}

func (w *wire) readBody(n int) ([]byte, error) {
	if n < 0 {
		return nil, errors.New("a packet shorter than its header")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(w.in, b)
	return b, err
}

// maxBody is the longest body of a TPKT packet, less its X.224 header.
const maxBody = 0xffff - 7

// writeData sends b as an X.224 data TPDU.
func (w *wire) writeData(b []byte) error {
	if len(b) > maxBody {
		return fmt.Errorf("a message of %d bytes", len(b))
	}
	out := []byte{3, 0}
	out = binary.BigEndian.AppendUint16(out, uint16(len(b)+7))
	out = append(out, 2, 0xf0, 0x80)
	_, err := w.conn.Write(append(out, b...))
	return err
}
