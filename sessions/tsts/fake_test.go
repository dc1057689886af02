package tsts

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	mststs "github.com/oiweiwei/go-msrpc/msrpc/tsts"
	icaapi "github.com/oiweiwei/go-msrpc/msrpc/tsts/icaapi/v1"
	enumeration "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvenumeration/v1"
	notification "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvnotification/v1"
	session "github.com/oiweiwei/go-msrpc/msrpc/tsts/termsrvsession/v1"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/tsts/internal/rpctest"
)

func TestMain(m *testing.M) {
	// The library's Kerberos acceptor, which only the test's server uses, keeps a cache of replays.
	const service = "github.com/oiweiwei/gokrb5.fork/v9/service."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(service+"GetReplayCache.func1.1"), goleak.IgnoreAnyFunction(service+"VerifyAPREQ.GetReplayCache.func1.1"))
}

const (
	user     = `CONTOSO\broker`
	password = "correct horse"
)

// winSession is a session of the fake host, in the host's terms.
type winSession struct {
	id                                    int32
	name                                  string
	state                                 int32 // WTS_CONNECTSTATE_CLASS
	domain, user                          string
	connect, disconnect, logon, lastInput int64
	code                                  uint32 // GetSessionInformationEx answers with it
}

// fakeHost is a host with sessions. Its fields may be changed by change.
type fakeHost struct {
	rpctest.Server
	addr string
	stop func()

	mu       sync.Mutex
	sessions []winSession
	now      int64             // the host's clock, FILETIME
	listCode uint32            // GetEnumResult answers with it
	hang     map[string]bool   // methods that never answer
	faults   map[string]uint32 // methods that answer with a fault
	codes    map[string]uint32 // methods that answer with a code
	onLogoff func(*fakeHost, int32)
	calls    map[string]int
	messages []string      // shown: session, style, seconds, not waited for, texts
	changes  chan struct{} // closed and replaced at each notification
}

// filetime is a time of day in FILETIME units.
func filetime(t time.Time) int64 { return (t.Unix()-epoch)*second + int64(t.Nanosecond()/100) }

var noon = filetime(time.Date(2026, 3, 1, 12, 0, 0, 123456700, time.UTC))

const minute = 60 * second

// office is a host as it stands in the field: services, console, listener, two users.
func office() []winSession {
	return []winSession{
		{id: 0, name: "Services", state: 4},
		{id: 1, name: "Console", state: 1},
		{id: 2, name: "RDP-Tcp#7", state: 0, domain: "CONTOSO", user: "Mary", connect: noon - 90*minute, logon: noon - 90*minute, lastInput: noon - minute},
		{id: 3, name: "", state: 4, domain: "CONTOSO", user: "jürgen", connect: noon - 300*minute, disconnect: noon - 60*minute, logon: noon - 300*minute, lastInput: noon - 61*minute},
		{id: 65536, name: "RDP-Tcp", state: 6},
	}
}

// newHost starts a fake host; edit changes it before it does.
func newHost(t *testing.T, edit ...func(*fakeHost)) *fakeHost {
	t.Helper()
	f := &fakeHost{sessions: office(), now: noon, hang: map[string]bool{}, faults: map[string]uint32{}, codes: map[string]uint32{},
		calls: map[string]int{}, changes: make(chan struct{})}
	f.User, f.Password = user, password
	f.Interfaces = []rpctest.Interface{
		{Syntax: enumeration.TerminateServerEnumerationSyntaxV1_0, Handler: enumeration.NewTerminateServerEnumerationServerHandle(enumServer{f: f})},
		{Syntax: session.TerminateServerSessionSyntaxV1_0, Handler: session.NewTerminateServerSessionServerHandle(sessionServer{f: f})},
		{Syntax: notification.TerminateServerNotificationSyntaxV1_0, Handler: notification.NewTerminateServerNotificationServerHandle(notifyServer{f: f})},
		{Syntax: icaapi.IcaAPISyntaxV1_0, Handler: icaapi.NewIcaAPIServerHandle(legacyServer{f: f})},
	}
	for _, e := range edit {
		e(f)
	}
	f.serve(t, "127.0.0.1:0")
	return f
}

// serve starts listening; stop ends it.
func (f *fakeHost) serve(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	var done sync.WaitGroup
	done.Go(func() { f.Serve(ln) })
	f.stop = sync.OnceFunc(func() { ln.Close(); f.Drop(); done.Wait() })
	t.Cleanup(f.stop)
}

// oldHost offers the legacy interface only.
func oldHost(f *fakeHost) { f.Interfaces = f.Interfaces[3:] }

func (f *fakeHost) change(do func(f *fakeHost)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f)
}

// notify is what the host does when something has changed.
func (f *fakeHost) notify() {
	f.change(func(f *fakeHost) {
		close(f.changes)
		f.changes = make(chan struct{})
	})
}

func (f *fakeHost) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// find is called with the lock held.
func (f *fakeHost) find(id int32) *winSession {
	for i := range f.sessions {
		if f.sessions[i].id == id {
			return &f.sessions[i]
		}
	}
	return nil
}

func (f *fakeHost) remove(id int32) {
	for i, s := range f.sessions {
		if s.id == id {
			f.sessions = append(f.sessions[:i:i], f.sessions[i+1:]...)
			return
		}
	}
}

// called counts a call and carries out what the test wants of it.
func (f *fakeHost) called(ctx context.Context, op string) (code int32, err error) {
	f.mu.Lock()
	f.calls[op]++
	hang, fault, c := f.hang[op], f.faults[op], f.codes[op]
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	if fault != 0 {
		return 0, rpctest.Fault(fault)
	}
	return int32(c), nil
}

func utf16z(s string, n int) []uint16 {
	u := append(utf16.Encode([]rune(s)), 0)
	return append(u, make([]uint16, n)...)[:n]
}

func handle(id int32) *dtyp.GUID { return &dtyp.GUID{Data1: uint32(id) + 1} }

type enumServer struct {
	enumeration.UnimplementedTerminateServerEnumerationServer
	f *fakeHost
}

func (s enumServer) OpenEnum(ctx context.Context, _ *enumeration.OpenEnumRequest) (*enumeration.OpenEnumResponse, error) {
	code, err := s.f.called(ctx, "OpenEnum")
	return &enumeration.OpenEnumResponse{Enum: &enumeration.Enum{UUID: handle(7)}, Return: code}, err
}

func (s enumServer) CloseEnum(ctx context.Context, _ *enumeration.CloseEnumRequest) (*enumeration.CloseEnumResponse, error) {
	code, err := s.f.called(ctx, "CloseEnum")
	return &enumeration.CloseEnumResponse{Enum: &enumeration.Enum{}, Return: code}, err
}

func (s enumServer) GetEnumResult(ctx context.Context, r *enumeration.GetEnumResultRequest) (*enumeration.GetEnumResultResponse, error) {
	code, err := s.f.called(ctx, "GetEnumResult")
	if err != nil || code != 0 {
		return &enumeration.GetEnumResultResponse{Return: code}, err
	}
	if r.Enum.UUID.Data1 != 8 || r.Level != 1 {
		return nil, rpctest.Fault(0x1C00001A) // nca_s_fault_context_mismatch
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	out := &enumeration.GetEnumResultResponse{Entries: uint32(len(s.f.sessions))}
	for _, w := range s.f.sessions {
		out.SessionEnumResult = append(out.SessionEnumResult, &enumeration.SessionEnum{Level: 1, Data: &enumeration.SessionInfo{
			Value: &enumeration.SessionInfo_SessionEnumLevel1{SessionEnumLevel1: &enumeration.SessionEnumLevel1{SessionID: w.id, State: w.state, Name: utf16z(w.name, 33)}}}})
	}
	return out, nil
}

type sessionServer struct {
	session.UnimplementedTerminateServerSessionServer
	f *fakeHost
}

func (s sessionServer) OpenSession(ctx context.Context, r *session.OpenSessionRequest) (*session.OpenSessionResponse, error) {
	code, err := s.f.called(ctx, "OpenSession")
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if w := s.f.find(r.SessionID); w == nil && code == 0 {
		code = notFound
	}
	return &session.OpenSessionResponse{Session: &session.Session{UUID: handle(r.SessionID)}, Return: code}, err
}

// notFound is HRESULT_FROM_WIN32(ERROR_CTX_WINSTATION_NOT_FOUND).
const notFound = -0x7FF8E492 // 0x80071B6E

func (s sessionServer) GetSessionInformationEx(ctx context.Context, r *session.GetSessionInformationExRequest) (*session.GetSessionInformationExResponse, error) {
	code, err := s.f.called(ctx, "GetSessionInformationEx")
	info := &session.LSMSessionInfoExLevel1{}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	switch w := s.f.find(r.SessionID); {
	case w == nil && code == 0:
		code = notFound
	case w != nil && w.code != 0:
		code = int32(w.code)
	case w != nil && code == 0:
		*info = session.LSMSessionInfoExLevel1{SessionState: w.state, SessionName: utf16z(w.name, 33), DomainName: utf16z(w.domain, 18), UserName: utf16z(w.user, 21),
			ConnectTime: w.connect, DisconnectTime: w.disconnect, LogonTime: w.logon, LastInputTime: w.lastInput}
	}
	return &session.GetSessionInformationExResponse{Return: code, LSMSessionInfoEx: &session.LSMSessionInformationEx{Level: 1,
		Data: &session.LSMSessionInfoEx{Value: &session.LSMSessionInfoEx_LSMSessionInfoLevel1{LSMSessionInfoLevel1: info}}}}, err
}

func (s sessionServer) Logoff(ctx context.Context, r *session.LogoffRequest) (*session.LogoffResponse, error) {
	code, err := s.f.called(ctx, "Logoff")
	if err == nil && code == 0 {
		s.f.loggedOff(int32(r.Session.UUID.Data1 - 1))
	}
	return &session.LogoffResponse{Return: code}, err
}

func (s sessionServer) Disconnect(ctx context.Context, r *session.DisconnectRequest) (*session.DisconnectResponse, error) {
	code, err := s.f.called(ctx, "Disconnect")
	if err == nil && code == 0 {
		s.f.disconnected(int32(r.Session.UUID.Data1 - 1))
	}
	return &session.DisconnectResponse{Return: code}, err
}

func (s sessionServer) ShowMessageBox(ctx context.Context, r *session.ShowMessageBoxRequest) (*session.ShowMessageBoxResponse, error) {
	code, err := s.f.called(ctx, "ShowMessageBox")
	s.f.change(func(f *fakeHost) {
		f.messages = append(f.messages, fmt.Sprintf("%d %d %d %v %s: %s", r.Session.UUID.Data1-1, r.Style, r.Timeout, r.DoNotWait, r.Title, r.Message))
	})
	return &session.ShowMessageBoxResponse{Return: code}, err
}

// disconnected takes a session's client away.
func (f *fakeHost) disconnected(id int32) {
	f.change(func(f *fakeHost) {
		w := f.find(id)
		w.name, w.state, w.disconnect = "", 4, f.now
	})
}

// loggedOff does what a logoff does here.
func (f *fakeHost) loggedOff(id int32) {
	f.mu.Lock()
	do := f.onLogoff
	f.mu.Unlock()
	if do == nil {
		do = func(f *fakeHost, id int32) { f.change(func(f *fakeHost) { f.remove(id) }) }
	}
	do(f, id)
}

type notifyServer struct {
	notification.UnimplementedTerminateServerNotificationServer
	f *fakeHost
}

func (s notifyServer) RegisterAsyncNotification(ctx context.Context, r *notification.RegisterAsyncNotificationRequest) (*notification.RegisterAsyncNotificationResponse, error) {
	code, err := s.f.called(ctx, "Register")
	if r.SessionID != -1 || r.Mask != 0xFFFFFFFF {
		return nil, rpctest.Fault(0x1C00001A)
	}
	return &notification.RegisterAsyncNotificationResponse{Notify: &notification.Notify{UUID: handle(1)}, Return: code}, err
}

func (s notifyServer) WaitAsyncNotification(ctx context.Context, _ *notification.WaitAsyncNotificationRequest) (*notification.WaitAsyncNotificationResponse, error) {
	if err := s.f.wait(ctx); err != nil {
		return nil, err
	}
	return &notification.WaitAsyncNotificationResponse{SessionChange: []*mststs.SessionChange{{SessionID: 3, NotificationID: 4}}, Entries: 1}, nil
}

// wait blocks until something has changed.
func (f *fakeHost) wait(ctx context.Context) error {
	f.mu.Lock()
	changes := f.changes
	f.mu.Unlock()
	if _, err := f.called(ctx, "Wait"); err != nil {
		return err
	}
	select {
	case <-changes:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type legacyServer struct {
	icaapi.UnimplementedIcaAPIServer
	f *fakeHost
}

func (s legacyServer) WinStationOpenServer(ctx context.Context, _ *icaapi.WinStationOpenServerRequest) (*icaapi.WinStationOpenServerResponse, error) {
	code, err := s.f.called(ctx, "OpenServer")
	return &icaapi.WinStationOpenServerResponse{Server: &mststs.Server{UUID: (*dtyp.GUID)(handle(9))}, Result: uint32(code), Return: code == 0}, err
}

func (s legacyServer) WinStationEnumerate(ctx context.Context, r *icaapi.WinStationEnumerateRequest) (*icaapi.WinStationEnumerateResponse, error) {
	code, err := s.f.called(ctx, "Enumerate")
	if err != nil || code != 0 {
		return &icaapi.WinStationEnumerateResponse{Result: uint32(code)}, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if int(r.Index) >= len(s.f.sessions) {
		return &icaapi.WinStationEnumerateResponse{Result: statusNoMoreEntries, Return: true}, nil
	}
	var b []byte
	rest := s.f.sessions[r.Index:]
	rest = rest[:min(2, len(rest))] // fewer than asked for, so that it takes several calls
	for _, w := range rest {
		b = binary.LittleEndian.AppendUint32(b, uint32(w.id))
		b = appendChars(b, w.name, 33)
		b = append(b, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(w.state))
	}
	return &icaapi.WinStationEnumerateResponse{Return: true, Entries: uint32(len(rest)), LogonID: b, ByteCount: uint32(len(b)), Index: r.Index + uint32(len(rest))}, nil
}

func (s legacyServer) WinStationQueryInformation(ctx context.Context, r *icaapi.WinStationQueryInformationRequest) (*icaapi.WinStationQueryInformationResponse, error) {
	code, err := s.f.called(ctx, fmt.Sprint("QueryInformation", r.WinStationInformationClass))
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	w := s.f.find(int32(r.LogonID))
	switch {
	case err != nil:
		return nil, err
	case code != 0:
		return &icaapi.WinStationQueryInformationResponse{Result: uint32(code)}, nil
	case w == nil:
		return &icaapi.WinStationQueryInformationResponse{Result: 0xC00A0015}, nil
	case r.WinStationInformationClass == 29 && r.WinStationInformationLength >= 32:
		b := append([]byte{2, 0, 0, 0, 0x3d, 0x0d, 0, 0, 10, 1, 2}, byte(w.id))
		b = append(b, make([]byte, 32-len(b))...)
		return &icaapi.WinStationQueryInformationResponse{Return: true, WinStationInformation: b, WinStationInformationLength: 32, ReturnLength: 32}, nil
	case r.WinStationInformationClass != 8 || r.WinStationInformationLength < 1216:
		return &icaapi.WinStationQueryInformationResponse{Result: 0xC0000023}, nil
	}
	b := w.information(s.f.now)
	return &icaapi.WinStationQueryInformationResponse{Return: true, WinStationInformation: b, WinStationInformationLength: uint32(len(b)), ReturnLength: uint32(len(b))}, nil
}

// information is the session as a WINSTATIONINFORMATION, written field by field
// in the order of winsta.h rather than by the parser's offsets.
func (w *winSession) information(now int64) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(w.state))
	b = appendChars(b, w.name, 33)
	b = append(b, 0, 0)
	b = le.AppendUint32(b, uint32(w.id))
	b = append(b, 0, 0, 0, 0)
	for _, t := range []int64{w.connect, w.disconnect, w.lastInput, w.logon} {
		b = le.AppendUint64(b, uint64(t))
	}
	counters := 14*4 + 2 + 2 + 100*4
	cache := 2 + 2 + 20*4
	b = append(b, make([]byte, 2*counters+cache+4+4)...)
	b = appendChars(b, w.domain, 18)
	b = appendChars(b, w.user, 21)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return le.AppendUint64(b, uint64(now))
}

func appendChars(b []byte, s string, n int) []byte {
	for _, c := range utf16z(s, n) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

func (s legacyServer) WinStationReset(ctx context.Context, r *icaapi.WinStationResetRequest) (*icaapi.WinStationResetResponse, error) {
	code, err := s.f.called(ctx, "Reset")
	if err == nil && code == 0 {
		s.f.loggedOff(int32(r.LogonID))
	}
	return &icaapi.WinStationResetResponse{Result: uint32(code), Return: code == 0}, err
}

func (s legacyServer) WinStationDisconnect(ctx context.Context, r *icaapi.WinStationDisconnectRequest) (*icaapi.WinStationDisconnectResponse, error) {
	code, err := s.f.called(ctx, "Disconnect")
	if err == nil && code == 0 {
		s.f.disconnected(int32(r.LogonID))
	}
	return &icaapi.WinStationDisconnectResponse{Result: uint32(code), Return: code == 0}, err
}

func (s legacyServer) WinStationWaitSystemEvent(ctx context.Context, r *icaapi.WinStationWaitSystemEventRequest) (*icaapi.WinStationWaitSystemEventResponse, error) {
	if err := s.f.wait(ctx); err != nil {
		return nil, err
	}
	return &icaapi.WinStationWaitSystemEventResponse{Return: true, EventFlags: 0x20}, nil
}

// driver is a driver of the host, with short pauses.
func (f *fakeHost) driver(t *testing.T, edit ...func(*Config)) *Driver {
	t.Helper()
	cfg := Config{Addr: "tcp://" + f.addr, User: user, Password: func() (string, error) { return password, nil }, Poll: 20 * time.Millisecond, Timeout: 10 * time.Second}
	for _, e := range edit {
		e(&cfg)
	}
	d, err := New(cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	d.settle = 5 * time.Millisecond
	return d
}

// host is what the inventory calls it.
var host = sessions.Host{Name: "ts01", Farm: "office"}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
