package tsts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	msrpcsmb "github.com/oiweiwei/go-msrpc/smb2"
	"github.com/oiweiwei/go-smb2.fork"

	"github.com/oiweiwei/go-msrpc/ssp/gssapi"

	"github.com/rdpbroker/rdpbroker/sessions/tsts/internal/rpc"
)

// openPipe logs on to the SMB server at the other end of nc, signing required,
// and opens a named pipe. It takes nc over and closes it when it fails.
func openPipe(ctx context.Context, nc net.Conn, host, name string, auth rpc.Auth) (_ io.ReadWriteCloser, err error) {
	// The library waits without a deadline; closing the connection ends it.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer func() {
		if !stop() && ctx.Err() != nil {
			err = fmt.Errorf("%w (%v)", context.Cause(ctx), err)
		}
		if err != nil {
			nc.Close()
		}
	}()
	security := append([]gssapi.ContextOption{auth.Mechanism, gssapi.WithTargetName("cifs/" + host)}, auth.Options...)
	d := msrpcsmb.NewDialer(msrpcsmb.WithSign(), msrpcsmb.WithSecurity(security...))
	session, err := d.DialContext(ctx, &smbFrames{Conn: nc})
	if err != nil {
		return nil, fmt.Errorf("SMB session: %w", err)
	}
	share, err := session.Mount(`\\` + host + `\IPC$`)
	if err != nil {
		return nil, fmt.Errorf("IPC$: %w", err)
	}
	file, err := share.OpenFile(name, os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pipe %s: %w", name, err)
	}
	return &pipe{File: file, nc: nc}, nil
}

// pipe is a named pipe on an SMB connection of its own.
type pipe struct {
	*smb2.File
	nc net.Conn
}

// Close drops the connection, which ends calls under way; the host closes the
// pipe and the session after it.
func (p *pipe) Close() error { return p.nc.Close() }

const (
	smbHeader    = 64      // [MS-SMB2] 2.2.1
	smbTransform = 52      // [MS-SMB2] 2.2.41
	smbMax       = 1 << 20 // far more than a pipe's answers need
)

// smbFrames lets only messages through that are framed as [MS-SMB2] says. The
// library reads headers in a goroutine without looking at the length first, and a
// short message would end the process.
type smbFrames struct {
	net.Conn
	head    [4]byte
	message []byte // of the current message, what has not been read yet
}

// Read is called by one goroutine: for 4 bytes, then for as many as those say.
func (f *smbFrames) Read(b []byte) (int, error) {
	if len(f.message) == 0 {
		if _, err := io.ReadFull(f.Conn, f.head[:]); err != nil {
			return 0, err
		}
		size := binary.BigEndian.Uint32(f.head[:])
		if size < smbHeader || size > smbMax {
			return 0, fmt.Errorf("an SMB message of %d bytes", size)
		}
		m := make([]byte, 4+size)
		copy(m, f.head[:])
		if _, err := io.ReadFull(f.Conn, m[4:]); err != nil {
			return 0, err
		}
		if err := checkSMB(m[4:]); err != nil {
			return 0, err
		}
		f.message = m
	}
	n := copy(b, f.message)
	f.message = f.message[n:]
	return n, nil
}

// checkSMB walks the headers of a message of one or more responses.
func checkSMB(m []byte) error {
	if len(m) >= smbTransform+smbHeader && string(m[:4]) == "\xfdSMB" {
		return nil // encrypted, and thereby authentic
	}
	for {
		if len(m) < smbHeader || string(m[:4]) != "\xfeSMB" {
			return errors.New("not an SMB 2 message")
		}
		next := binary.LittleEndian.Uint32(m[20:])
		if next == 0 {
			return nil
		}
		if next < smbHeader || uint64(next) > uint64(len(m)) {
			return errors.New("SMB 2 responses that do not fit their message")
		}
		m = m[next:]
	}
}
