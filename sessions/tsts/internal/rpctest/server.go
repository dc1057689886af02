// Package rpctest is a DCE/RPC server over TCP for tests: it authenticates by
// NTLM or Kerberos, demands sealed requests and runs server stubs. Its packets are written by
// hand from [C706] and [MS-RPCE], apart from those of package rpc, so that the two
// check each other.
package rpctest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/ndr"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/oiweiwei/go-msrpc/ssp/krb5"
	"github.com/oiweiwei/go-msrpc/ssp/ntlm"
)

// Fault is returned by a handler to answer with a fault of that status.
type Fault uint32

func (f Fault) Error() string { return fmt.Sprintf("fault 0x%08X", uint32(f)) }

// Interface is one interface of a Server.
type Interface struct {
	Syntax  *dcerpc.SyntaxID
	Handler dcerpc.ServerHandle
}

// Server answers on the connections that Serve is given. The zero values of
// its fields are those of an honest server. Set them before Serve.
type Server struct {
	// User and Password are the only account.
	User, Password string
	// Keytab is the path of the keytab of a server that takes Kerberos instead.
	Keytab string
	// Interfaces are those it offers.
	Interfaces []Interface
	// Fragment is the most that it takes and sends in one packet; 0 means 4280.
	Fragment int
	// Mangle may replace each packet that goes out; nil ends the connection.
	Mangle func(kind byte, pkt []byte) []byte

	// Logf is told why a connection was ended; nil: nobody is.
	Logf func(format string, args ...any)

	mu      sync.Mutex
	conns   map[net.Conn]bool
	logons  int
	refused int
	binds   int
}

// Packet types.
const (
	Request  = 0
	Response = 2
	FaultPkt = 3
	Bind     = 11
	BindAck  = 12
	BindNak  = 13
	Auth3    = 16
)

var le = binary.LittleEndian

// Serve answers connections until ln is closed, and returns when all have ended.
func (s *Server) Serve(ln net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer s.Drop()
	defer cancel()
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.conns == nil {
			s.conns = map[net.Conn]bool{}
		}
		s.conns[c] = true
		s.mu.Unlock()
		all.Go(func() {
			s.serve(ctx, c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// Drop closes all connections.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Counts are the binds, the logons and the refused logons so far.
func (s *Server) Counts() (binds, logons, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.binds, s.logons, s.refused
}

// Connections is how many are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// conn is one connection of a client.
type conn struct {
	s        *Server
	c        net.Conn
	sec      context.Context
	bound    map[uint16]*Interface // by presentation context
	maxSend  int
	authType byte
	verified bool // the logon was accepted
	stub     []byte
}

func (s *Server) serve(ctx context.Context, nc net.Conn) {
	// A call that waits for something ends when its client has gone: reading goes on meanwhile.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conn{s: s, c: nc, maxSend: 4280, bound: map[uint16]*Interface{}, authType: ntlmAuth, sec: s.ntlm()}
	if s.Keytab != "" {
		c.authType, c.sec = kerberosAuth, s.kerberos()
	}
	packets := make(chan []byte)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer nc.Close()
	reader.Go(func() {
		defer cancel()
		defer close(packets)
		for {
			pkt, err := read(nc)
			if err != nil {
				return
			}
			select {
			case packets <- pkt:
			case <-ctx.Done():
				return
			}
		}
	})
	for pkt := range packets {
		if err := c.handle(ctx, pkt); err != nil {
			if s.Logf != nil {
				s.Logf("rpctest: %v", err)
			}
			return
		}
	}
}

// Authentication types.
const (
	ntlmAuth     = 0x0A
	kerberosAuth = 0x10
)

func (s *Server) ntlm() context.Context {
	db := credential.NewLocalDatabase()
	db.Add(credential.NewFromPassword(s.User, s.Password))
	return gssapi.NewSecurityContext(context.Background(), ssp.NTLM,
		gssapi.WithMechanismType(ssp.MechanismTypeNTLM),
		gssapi.WithMechanismConfig(&ntlm.Config{RequestMIC: true, NetBIOSComputerName: "HOST", NetBIOSDomainName: "CONTOSO"}),
		gssapi.WithCredentialDatabase(gssapi.NewCredentialDatabase(db)))
}

func (s *Server) kerberos() context.Context {
	return gssapi.NewSecurityContext(context.Background(), ssp.KRB5,
		gssapi.WithMechanismType(ssp.MechanismTypeKRB5),
		gssapi.WithMechanismConfig(&krb5.Config{DCEStyle: true, DisablePACDecoding: true}),
		gssapi.NewCredential("", nil, gssapi.InitiateAndAccept, credential.NewFromKeytabFile("host", s.Keytab)))
}

func read(r io.Reader) ([]byte, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(le.Uint16(head[8:]))
	if head[0] != 5 || n < 16 {
		return nil, errors.New("no DCE/RPC packet")
	}
	pkt := append(head, make([]byte, n-16)...)
	_, err := io.ReadFull(r, pkt[16:])
	return pkt, err
}

func (c *conn) handle(ctx context.Context, pkt []byte) error {
	authLen := int(le.Uint16(pkt[10:]))
	if authLen == 0 || len(pkt) < 16+8+authLen {
		return errors.New("a packet without authentication")
	}
	trailer := pkt[len(pkt)-authLen-8:]
	if trailer[0] != c.authType || trailer[1] != 6 {
		return fmt.Errorf("authentication type %d, level %d", trailer[0], trailer[1])
	}
	switch pkt[2] {
	case Bind:
		return c.bind(pkt, trailer)
	case Auth3:
		return c.authenticate(trailer[8:])
	case Request:
		return c.request(ctx, pkt, trailer)
	}
	return fmt.Errorf("packet type %d", pkt[2])
}

func (c *conn) bind(pkt, trailer []byte) error {
	c.s.mu.Lock()
	c.s.binds++
	c.s.mu.Unlock()
	fragment := c.s.Fragment
	if fragment == 0 {
		fragment = 4280
	}
	c.maxSend = min(fragment, int(le.Uint16(pkt[18:])))
	b := head(BindAck, pkt[3], le.Uint32(pkt[12:]))
	b = le.AppendUint16(b, uint16(c.maxSend))
	b = le.AppendUint16(b, uint16(fragment))
	b = le.AppendUint32(b, 0x5678)
	b = append(b, 4, 0, '1', '3', '5', 0) // secondary address
	b = append(b, make([]byte, (4-len(b)%4)%4)...)
	b = append(b, pkt[24], 0, 0, 0)
	at := 28
	for range pkt[24] {
		if len(pkt) < at+44 || pkt[at+2] != 1 {
			return errors.New("presentation contexts that do not fit")
		}
		var found *Interface
		for i, have := range c.s.Interfaces {
			if bytes.Equal(syntax(have.Syntax), pkt[at+4:at+24]) && bytes.Equal(syntax(dcerpc.TransferNDRSyntaxV2_0), pkt[at+24:at+44]) {
				found = &c.s.Interfaces[i]
			}
		}
		if c.bound[le.Uint16(pkt[at:])] = found; found != nil {
			b = le.AppendUint32(b, 0)
			b = append(b, pkt[at+24:at+44]...)
		} else {
			b = append(b, 2, 0, 1, 0) // provider rejection, abstract syntax not supported
			b = append(b, make([]byte, 20)...)
		}
		at += 44
	}
	out, err := gssapi.AcceptSecurityContext(c.sec, &gssapi.Token{Payload: trailer[8:]})
	if err != nil {
		return err
	}
	b = append(b, trailer[:8]...)
	b[len(b)-6] = 0 // no padding
	b = append(b, out.Payload...)
	return c.write(BindAck, b, len(out.Payload))
}

// authenticate takes the third leg. Nobody answers it: that a logon was refused
// shows at the first request.
func (c *conn) authenticate(token []byte) error {
	_, err := gssapi.AcceptSecurityContext(c.sec, &gssapi.Token{Payload: bytes.Clone(token)})
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.verified = err == nil; c.verified {
		c.s.logons++
	} else {
		c.s.refused++
	}
	return nil
}

func (c *conn) request(ctx context.Context, pkt, trailer []byte) error {
	callID, pctx, opnum := le.Uint32(pkt[12:]), le.Uint16(pkt[20:]), le.Uint16(pkt[22:])
	if !c.verified {
		return c.fault(callID, pctx, 5)
	}
	end := len(pkt) - len(trailer)
	got := bytes.Clone(trailer[8:])
	out, err := gssapi.UnwrapEx(c.sec, &gssapi.MessageTokenEx{Payloads: parts(pkt, end), Signature: got})
	if err != nil || !bytes.Equal(out.Signature, got) {
		return c.fault(callID, pctx, 5)
	}
	c.stub = append(c.stub, pkt[24:end-int(trailer[2])]...)
	if pkt[3]&2 == 0 { // more fragments
		return nil
	}
	stub := c.stub
	c.stub = nil
	if c.bound[pctx] == nil {
		return c.fault(callID, pctx, 0x1C010003)
	}
	op, err := c.bound[pctx].Handler(ctx, int(opnum), ndr.NDR20(stub))
	var status Fault
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &status):
		return c.fault(callID, pctx, uint32(status))
	case err != nil:
		return c.fault(callID, pctx, 0x1C000009)
	}
	w := ndr.NDR20(nil)
	if err := op.MarshalNDRResponse(ctx, w); err != nil {
		return err
	}
	return c.respond(callID, pctx, w.Bytes())
}

func (c *conn) respond(callID uint32, pctx uint16, stub []byte) error {
	size := -gssapi.WrapSizeLimit(c.sec, 0, gssapi.WithRequest(gssapi.Confidentiality|gssapi.Integrity))
	room := (c.maxSend - 24 - 8 - size) &^ 15
	for first := true; first || len(stub) > 0; first = false {
		part := stub[:min(room, len(stub))]
		stub = stub[len(part):]
		flags := byte(0)
		if first {
			flags |= 1
		}
		if len(stub) == 0 {
			flags |= 2
		}
		b := head(Response, flags, callID)
		b = le.AppendUint32(b, uint32(len(part)+len(stub)))
		b = le.AppendUint16(b, pctx)
		b = append(b, 0, 0)
		b = append(b, part...)
		pad := (16 - len(part)%16) % 16
		b = append(b, make([]byte, pad)...)
		end := len(b)
		b = append(b, c.authType, 6, byte(pad), 0, 1, 0, 0, 0)
		b = append(b, make([]byte, size)...)
		lengths(b, size)
		out, err := gssapi.WrapEx(c.sec, &gssapi.MessageTokenEx{Payloads: parts(b, end)})
		if err != nil {
			return err
		}
		copy(b[end+8:], out.Signature)
		if err := c.write(Response, b, size); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) fault(callID uint32, pctx uint16, status uint32) error {
	b := head(FaultPkt, 3, callID)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint16(b, pctx)
	b = append(b, 0, 0)
	b = le.AppendUint32(b, status)
	b = le.AppendUint32(b, 0)
	return c.write(FaultPkt, b, 0)
}

func (c *conn) write(kind byte, b []byte, authLen int) error {
	lengths(b, authLen)
	if c.s.Mangle != nil {
		if b = c.s.Mangle(kind, b); b == nil {
			return errors.New("dropped")
		}
	}
	_, err := c.c.Write(b)
	return err
}

func head(kind, flags byte, callID uint32) []byte {
	b := []byte{5, 0, kind, flags, 0x10, 0, 0, 0, 0, 0, 0, 0}
	return le.AppendUint32(b, callID)
}

func lengths(b []byte, authLen int) {
	le.PutUint16(b[8:], uint16(len(b)))
	le.PutUint16(b[10:], uint16(authLen))
}

func parts(pkt []byte, end int) []*gssapi.PayloadEx {
	return []*gssapi.PayloadEx{
		{Payload: pkt[:24], Capabilities: gssapi.Integrity},
		{Payload: pkt[24:end], Capabilities: gssapi.Integrity | gssapi.Confidentiality},
		{Payload: pkt[end : end+8], Capabilities: gssapi.Integrity},
	}
}

func syntax(s *dcerpc.SyntaxID) []byte {
	u := s.IfUUID
	b := le.AppendUint32(nil, u.TimeLow)
	b = le.AppendUint16(b, u.TimeMid)
	b = le.AppendUint16(b, u.TimeHiAndVersion)
	b = append(b, u.ClockSeqHiAndReserved, u.ClockSeqLow)
	b = append(b, u.Node[:]...)
	b = le.AppendUint16(b, s.IfVersionMajor)
	return le.AppendUint16(b, s.IfVersionMinor)
}
