package rpc

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	session "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvsession/v1"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/sessions/tsts/internal/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const user, password = `CONTOSO\broker`, "correct horse"

// names answers RpcGetUserName with a long name, so that answers have fragments.
type names struct {
	session.UnimplementedTerminateServerSessionServer
	name string
	wait chan struct{} // nil: no wait
}

func (n *names) GetUserName(ctx context.Context, _ *session.GetUserNameRequest) (*session.GetUserNameResponse, error) {
	if n.wait != nil {
		select {
		case <-n.wait:
		case <-ctx.Done():
		}
	}
	return &session.GetUserNameResponse{UserName: n.name, Domain: "CONTOSO"}, nil
}

func (n *names) Logoff(context.Context, *session.LogoffRequest) (*session.LogoffResponse, error) {
	return &session.LogoffResponse{Return: -2147024891}, nil // 0x80070005
}

func (n *names) GetState(context.Context, *session.GetStateRequest) (*session.GetStateResponse, error) {
	return nil, rpctest.Fault(FaultOpRange)
}

func start(t *testing.T, s *rpctest.Server, n *names) string {
	t.Helper()
	s.User, s.Password = user, password
	s.Interfaces = []rpctest.Interface{{Syntax: session.TerminateServerSessionSyntaxV1_0, Handler: session.NewTerminateServerSessionServerHandle(n)}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { s.Serve(ln) })
	t.Cleanup(func() { ln.Close(); done.Wait() })
	return ln.Addr().String()
}

func dial(t *testing.T, addr, password string) (session.TerminateServerSessionClient, *Conn, error) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c, err := Bind(within(t), nc, auth(password), session.TerminateServerSessionSyntaxV1_0)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { c.Close() })
	ic, err := c.Interface(0)
	if err != nil {
		return nil, nil, err
	}
	cl, err := session.NewTerminateServerSessionClient(within(t), ic)
	return cl, c, err
}

func auth(password string) Auth {
	return Auth{Mechanism: ssp.NTLM, TargetName: "host/127.0.0.1", Options: []gssapi.ContextOption{
		gssapi.NewCredential("", nil, gssapi.InitiateOnly, credential.NewFromPassword(user, password))}}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCalls(t *testing.T) {
	n := &names{name: strings.Repeat("a name ", 3000)} // 42 kB, eleven fragments
	cl, _, err := dial(t, start(t, new(rpctest.Server), n), password)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the seal's state goes on from call to call
		r, err := cl.GetUserName(within(t), &session.GetUserNameRequest{Session: &session.Session{}})
		if err != nil {
			t.Fatal(err)
		}
		if r.UserName != n.name || r.Domain != "CONTOSO" {
			t.Fatalf("got %.20q of %d bytes, %q", r.UserName, len(r.UserName), r.Domain)
		}
	}
}

func TestLongRequest(t *testing.T) {
	s := &rpctest.Server{}
	cl, _, err := dial(t, start(t, s, &names{}), password)
	if err != nil {
		t.Fatal(err)
	}
	// Not implemented there, so a fault; but the server has put the fragments together.
	_, err = cl.ShowMessageBox(within(t), &session.ShowMessageBoxRequest{Session: &session.Session{}, Title: "t", Message: strings.Repeat("m", 20000)})
	var f *Fault
	if !errors.As(err, &f) {
		t.Fatalf("got %v", err)
	}
	if _, err := cl.GetUserName(within(t), &session.GetUserNameRequest{Session: &session.Session{}}); err != nil {
		t.Errorf("a fault ended the connection: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	cl, c, err := dial(t, start(t, new(rpctest.Server), &names{}), password)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cl.Logoff(within(t), &session.LogoffRequest{Session: &session.Session{}})
	var ret *ReturnError
	if !errors.As(err, &ret) || ret.Value != int32(-2147024891) {
		t.Errorf("a return value came as %v", err)
	}
	_, err = cl.GetState(within(t), &session.GetStateRequest{Session: &session.Session{}})
	var f *Fault
	if !errors.As(err, &f) || f.Status != FaultOpRange {
		t.Errorf("a fault came as %v", err)
	}
	if c.Err() != nil {
		t.Errorf("the connection is broken: %v", c.Err())
	}
}

func TestWrongPassword(t *testing.T) {
	s := &rpctest.Server{}
	cl, _, err := dial(t, start(t, s, &names{}), "wrong")
	if err != nil {
		t.Fatal(err) // shows at the first call only
	}
	_, err = cl.GetUserName(within(t), &session.GetUserNameRequest{Session: &session.Session{}})
	var f *Fault
	if !errors.As(err, &f) || f.Status != FaultAccessDenied {
		t.Errorf("got %v", err)
	}
}

func TestNoSuchInterface(t *testing.T) {
	addr := start(t, new(rpctest.Server), &names{})
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	other := *session.TerminateServerSessionSyntaxV1_0
	other.IfVersionMajor = 9
	c, err := Bind(within(t), nc, auth(password), &other, session.TerminateServerSessionSyntaxV1_0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var refused *BindError
	if _, err := c.Interface(0); !errors.As(err, &refused) || !refused.Interface {
		t.Errorf("got %v", err)
	}
	if _, err := c.Interface(1); err != nil {
		t.Error(err)
	}
}

// Whoever sits on the line may neither change, replay nor unseal answers, and
// not weaken the logon; and nothing that is sent may end the process.
func TestHostile(t *testing.T) {
	at := func(kind byte, i int, xor byte) func(byte, []byte) []byte {
		return func(k byte, pkt []byte) []byte {
			if k == kind {
				if i < 0 {
					pkt[len(pkt)+i] ^= xor
				} else {
					pkt[i] ^= xor
				}
			}
			return pkt
		}
	}
	challenge := func(k byte, pkt []byte) int { return len(pkt) - int(le.Uint16(pkt[10:])) }
	for name, mangle := range map[string]func(byte, []byte) []byte{
		"one bit of the stub":         at(rpctest.Response, 24, 4),
		"one bit of the signature":    at(rpctest.Response, -9, 1),
		"one bit of the header":       at(rpctest.Response, 16, 1),
		"one bit of the padding size": at(rpctest.Response, -22, 1),
		"another call":                at(rpctest.Response, 12, 1),
		"another context":             at(rpctest.Response, 20, 1),
		"another type":                at(rpctest.Response, 2, 4),
		"big-endian":                  at(rpctest.Response, 4, 0x10),
		"version":                     at(rpctest.BindAck, 0, 1),
		"bind results missing":        at(rpctest.BindAck, 36, 1),
		"a small fragment size":       at(rpctest.BindAck, 19, 0x10),
		"authentication level":        at(rpctest.BindAck, 65, 4),
		"not sealed": func(k byte, pkt []byte) []byte {
			if k == rpctest.Response {
				pkt = pkt[:len(pkt)-24]
				le.PutUint16(pkt[8:], uint16(len(pkt)))
				le.PutUint16(pkt[10:], 0)
			}
			return pkt
		},
		"no authentication at the bind": func(k byte, pkt []byte) []byte {
			if k == rpctest.BindAck {
				pkt = pkt[:challenge(k, pkt)-8]
				le.PutUint16(pkt[8:], uint16(len(pkt)))
				le.PutUint16(pkt[10:], 0)
			}
			return pkt
		},
		"a challenge without sealing": func(k byte, pkt []byte) []byte {
			if k == rpctest.BindAck {
				pkt[challenge(k, pkt)+20] &^= 0x20
			}
			return pkt
		},
		"a challenge without extended security": func(k byte, pkt []byte) []byte {
			if k == rpctest.BindAck {
				pkt[challenge(k, pkt)+22] &^= 0x08
			}
			return pkt
		},
		"auth length beyond the packet": func(k byte, pkt []byte) []byte {
			if k == rpctest.Response {
				le.PutUint16(pkt[10:], 0xfff0)
			}
			return pkt
		},
		"a packet of 10 bytes": func(k byte, pkt []byte) []byte {
			if k == rpctest.Response {
				le.PutUint16(pkt[8:], 10)
			}
			return pkt
		},
		"a sealed fault": func(k byte, pkt []byte) []byte {
			if k == rpctest.Response {
				pkt[2] = rpctest.FaultPkt
			}
			return pkt
		},
		"text":           func(byte, []byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"nothing at all": func(byte, []byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			cl, c, err := dial(t, start(t, &rpctest.Server{Mangle: mangle}, &names{name: "mary"}), password)
			if err == nil {
				var r *session.GetUserNameResponse
				if r, err = cl.GetUserName(within(t), &session.GetUserNameRequest{Session: &session.Session{}}); err == nil {
					t.Fatalf("it was believed: %q", r.UserName)
				}
				if c.Err() == nil {
					t.Errorf("the connection goes on after %v", err)
				}
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("only time ended it: %v", err)
			}
			t.Log(err)
		})
	}
}

func TestCancelEndsAWait(t *testing.T) {
	n := &names{wait: make(chan struct{})}
	cl, c, err := dial(t, start(t, new(rpctest.Server), n), password)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(within(t))
	why := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := cl.GetUserName(ctx, &session.GetUserNameRequest{Session: &session.Session{}}); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if c.Err() == nil {
		t.Error("the connection would be used again")
	}
	if _, err := cl.GetUserName(within(t), &session.GetUserNameRequest{Session: &session.Session{}}); err == nil {
		t.Error("a call on a broken connection succeeded")
	}
}

// The library's own client and this test's server understand each other, so the
// server is not merely the mirror of our mistakes.
func TestServerAgainstTheLibrary(t *testing.T) {
	n := &names{name: strings.Repeat("n", 9000)}
	addr := start(t, new(rpctest.Server), n)
	_, port, _ := net.SplitHostPort(addr)
	ctx := gssapi.NewSecurityContext(within(t))
	cc, err := dcerpc.Dial(ctx, "ncacn_ip_tcp:127.0.0.1["+port+"]", dcerpc.WithMechanism(ssp.NTLM),
		dcerpc.WithCredentials(credential.NewFromPassword(user, password)))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close(ctx)
	cl, err := session.NewTerminateServerSessionClient(ctx, cc, dcerpc.WithSeal())
	if err != nil {
		t.Fatal(err)
	}
	r, err := cl.GetUserName(ctx, &session.GetUserNameRequest{Session: &session.Session{}})
	if err != nil || r.UserName != n.name {
		t.Fatalf("%v, %v", r, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(bindPacket(1, []*dcerpc.SyntaxID{session.TerminateServerSessionSyntaxV1_0}, []byte("token"), authNTLM))
	f.Add([]byte{5, 0, 12, 3, 16, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 0xb8, 16, 0xb8, 16, 0, 0, 0, 0, 4, 0, '1', '3', '5', 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0, 4, 93, 136, 138, 235, 28, 201, 17, 159, 232, 8, 0, 43, 16, 72, 96, 2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil || h.fragLen > len(b) {
			return
		}
		parseBindAck(b[:h.fragLen], h)
		faultStatus(b[:h.fragLen])
		nakReason(b[:h.fragLen])
	})
}
