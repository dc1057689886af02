package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/midl/uuid"
	"github.com/oiweiwei/go-msrpc/ndr"
)

// maxAnswer bounds one answer, all its fragments together.
const maxAnswer = 4 << 20

// Conn is an authenticated connection, bound to one or more interfaces. Calls
// may be made from several goroutines; they follow one another.
type Conn struct {
	rwc      io.ReadWriteCloser
	r        *bufio.Reader
	sec      *security
	maxSend  int
	accepted []error // for each interface: nil, or why not

	mu     sync.Mutex
	callID uint32
	broken error
}

// Bind authenticates on rwc and asks for the interfaces. An interface that the
// server does not offer is no error here: Interface tells. Bind takes rwc over
// and closes it when it fails or ctx ends before it returns; closing must end
// reads and writes that are under way.
func Bind(ctx context.Context, rwc io.ReadWriteCloser, a Auth, interfaces ...*dcerpc.SyntaxID) (*Conn, error) {
	// A read returns at most one message of a pipe, so the buffer holds the largest.
	c := &Conn{rwc: rwc, r: bufio.NewReaderSize(rwc, 1<<16), sec: newSecurity(a)}
	if err := c.during(ctx, func() error { return c.bind(interfaces) }); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conn) bind(interfaces []*dcerpc.SyntaxID) error {
	token, err := c.sec.step(nil)
	if err != nil {
		return &SecurityError{err}
	}
	c.callID++
	if _, err := c.rwc.Write(bindPacket(c.callID, interfaces, token, c.sec.authType)); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	pkt, h, err := c.readPacket()
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	switch h.kind {
	case typeBindAck:
	case typeBindNak:
		return &BindError{Reason: nakReason(pkt)}
	case typeFault:
		status, err := faultStatus(pkt)
		if err != nil {
			return err
		}
		return &Fault{status}
	default:
		return fmt.Errorf("bind: answered by a packet of type %d", h.kind)
	}
	ack, err := parseBindAck(pkt, h)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if len(ack.results) != len(interfaces) || ack.maxSend < minFragment {
		return fmt.Errorf("bind: %d results for %d interfaces, fragments of %d bytes", len(ack.results), len(interfaces), ack.maxSend)
	}
	if len(ack.token) == 0 {
		return &SecurityError{errors.New("the server does not authenticate")}
	}
	c.maxSend, c.sec.headerSign = min(ack.maxSend, maxFragment), ack.headerSign
	for _, result := range ack.results {
		var err error
		if result != 0 {
			err = &BindError{Interface: true, Reason: result}
		}
		c.accepted = append(c.accepted, err)
	}
	if token, err = c.sec.step(ack.token); err != nil {
		return &SecurityError{err}
	}
	if !c.sec.done() {
		return &SecurityError{errors.New("the logon wants more than three legs")}
	}
	if len(token) == 0 {
		return nil
	}
	c.callID++
	if _, err := c.rwc.Write(auth3Packet(c.callID, token, c.sec.authType)); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	return nil
}

// Interface gives the i-th interface of Bind in the form that the stubs take.
func (c *Conn) Interface(i int) (dcerpc.Conn, error) {
	if err := c.accepted[i]; err != nil {
		return nil, err
	}
	return &stub{c: c, context: uint16(i)}, nil
}

// Close ends the connection and whatever waits on it.
func (c *Conn) Close() error { return c.rwc.Close() }

// Err is why the connection is of no more use, or nil.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// during runs do and closes the connection if ctx ends before do does, or do
// fails in a way after which no other call can follow. A panic of the decoder
// on a hostile answer is such a failure.
func (c *Conn) during(ctx context.Context, do func() error) (err error) {
	stop := context.AfterFunc(ctx, func() { c.rwc.Close() })
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the answer cannot be decoded: %v", p)
		}
		if !stop() && ctx.Err() != nil {
			err = fmt.Errorf("%w (%v)", context.Cause(ctx), err)
			c.broken = err
		}
		var answer *Fault
		if err != nil && !errors.As(err, &answer) {
			c.broken = err
			c.rwc.Close()
		}
	}()
	return do()
}

// call makes one call; stub is the marshalled request, the answer is the
// marshalled response.
func (c *Conn) call(ctx context.Context, pctx uint16, opnum uint16, request []byte) (answer []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return nil, fmt.Errorf("the connection is broken: %w", c.broken)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = c.during(ctx, func() error {
		c.callID++
		if err := c.send(pctx, opnum, request); err != nil {
			return err
		}
		answer, err = c.receive(pctx)
		return err
	})
	return answer, err
}

// send writes the request in sealed fragments.
func (c *Conn) send(pctx, opnum uint16, request []byte) error {
	size := c.sec.tokenSize()
	room := (c.maxSend - callSize - trailerSize - size) &^ 15
	if size <= 0 || room <= 0 {
		return fmt.Errorf("signatures of %d bytes do not fit", size)
	}
	for first := true; first || len(request) > 0; first = false {
		part := request[:min(room, len(request))]
		request = request[len(part):]
		h := header{kind: typeRequest, callID: c.callID}
		if first {
			h.flags |= flagFirst
		}
		if len(request) == 0 {
			h.flags |= flagLast
		}
		pkt := appendHeader(make([]byte, 0, c.maxSend), h)
		pkt = le.AppendUint32(pkt, uint32(len(part)+len(request)))
		pkt = le.AppendUint16(pkt, pctx)
		pkt = le.AppendUint16(pkt, opnum)
		pkt = append(pkt, part...)
		pad := (16 - len(part)%16) % 16
		pkt = append(pkt, make([]byte, pad)...)
		end := len(pkt)
		pkt = appendTrailer(pkt, c.sec.authType, pad)
		pkt = append(pkt, make([]byte, size)...)
		setLengths(pkt, size)
		if err := c.sec.seal(pkt, end); err != nil {
			return &SecurityError{err}
		}
		if _, err := c.rwc.Write(pkt); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// receive reads the fragments of one answer.
func (c *Conn) receive(pctx uint16) ([]byte, error) {
	var answer []byte
	for first := true; ; first = false {
		pkt, h, err := c.readPacket()
		if err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		if h.callID != c.callID {
			return nil, fmt.Errorf("receive: an answer to call %d instead of %d", h.callID, c.callID)
		}
		switch {
		case h.kind == typeFault && h.authLen == 0:
			status, err := faultStatus(pkt)
			if err != nil {
				return nil, err
			}
			return nil, &Fault{status}
		case h.kind == typeFault:
			// It has moved the seal's state on in ways we do not follow.
			status, _ := faultStatus(pkt)
			return nil, fmt.Errorf("receive: a sealed fault (0x%08X)", status)
		case h.kind != typeResponse:
			return nil, fmt.Errorf("receive: a packet of type %d", h.kind)
		case (h.flags&flagFirst != 0) != first:
			return nil, errors.New("receive: fragments out of order")
		}
		part, err := c.openResponse(pkt, h, pctx)
		if err != nil {
			return nil, &SecurityError{err}
		}
		if answer = append(answer, part...); len(answer) > maxAnswer {
			return nil, errors.New("receive: the answer is too large")
		}
		if h.flags&flagLast != 0 {
			return answer, nil
		}
	}
}

// openResponse unseals one response packet and returns its part of the stub.
func (c *Conn) openResponse(pkt []byte, h header, pctx uint16) ([]byte, error) {
	end := len(pkt) - h.authLen - trailerSize
	switch {
	case h.authLen == 0:
		return nil, errors.New("the answer is not sealed")
	case end < callSize:
		return nil, errShort
	}
	trailer := pkt[end:]
	if err := checkTrailer(trailer, int(c.sec.authType)); err != nil {
		return nil, err
	}
	if err := c.sec.open(pkt, end); err != nil {
		return nil, err
	}
	if got := le.Uint16(pkt[20:]); got != pctx {
		return nil, fmt.Errorf("an answer of presentation context %d instead of %d", got, pctx)
	}
	end -= int(trailer[2])
	if end < callSize {
		return nil, errShort
	}
	return pkt[callSize:end], nil
}

// readPacket reads one packet. Its length is at least what its header needs.
func (c *Conn) readPacket() ([]byte, header, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, header{}, err
	}
	h, err := parseHeader(head[:])
	if err != nil {
		return nil, h, err
	}
	pkt := make([]byte, h.fragLen)
	copy(pkt, head[:])
	if _, err := io.ReadFull(c.r, pkt[headerSize:]); err != nil {
		return nil, h, err
	}
	return pkt, h, nil
}

// stub is one interface on a Conn, as generated stubs call it.
type stub struct {
	c       *Conn
	context uint16
}

var _ dcerpc.Conn = (*stub)(nil)

// Bind is called by the stubs' constructors; the binding exists already.
func (s *stub) Bind(context.Context, ...dcerpc.Option) (dcerpc.Conn, error) { return s, nil }

func (s *stub) Invoke(ctx context.Context, op dcerpc.Operation, _ ...dcerpc.CallOption) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the answer cannot be decoded: %v", op.OpName(), p)
		}
	}()
	w := ndr.NDR20(nil)
	if err := op.MarshalNDRRequest(ctx, w); err != nil {
		return fmt.Errorf("%s: marshal: %w", op.OpName(), err)
	}
	answer, err := s.c.call(ctx, s.context, uint16(op.OpNum()), w.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", op.OpName(), err)
	}
	r := ndr.NDR20(answer)
	if err := errors.Join(op.UnmarshalNDRResponse(ctx, r), r.Err()); err != nil {
		return fmt.Errorf("%s: unmarshal: %w", op.OpName(), err)
	}
	return nil
}

func (s *stub) InvokeObject(context.Context, *uuid.UUID, dcerpc.Operation, ...dcerpc.CallOption) error {
	return errors.New("objects are not supported")
}

func (s *stub) AlterContext(context.Context, ...dcerpc.Option) error {
	return errors.New("a bound connection is not altered")
}

func (s *stub) RegisterServer(dcerpc.ServerHandle, ...dcerpc.Option) {}

func (s *stub) Context() context.Context { return s.c.sec.ctx }

func (s *stub) Close(context.Context) error { return s.c.Close() }

// Error makes the error of a method that did not return zero.
func (s *stub) Error(_ context.Context, value any) error { return &ReturnError{value} }
