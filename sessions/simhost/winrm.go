package simhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions/wintext"
	"go.uber.org/zap"
)

// WinRM configures the management endpoint of a host.
type WinRM struct {
	// Managers may use it. With none, nobody can.
	Managers []Manager
	// TLS makes it HTTPS; nil is plain HTTP. It is the endpoint's from now on.
	TLS *tls.Config
	// Basic offers Basic authentication beside NTLM, over plain HTTP as well:
	// what an attacker's endpoint would do to get at a password.
	Basic bool
	// NoNTLM does not offer NTLM.
	NoNTLM bool
	// RefusePlain answers unsealed messages over plain HTTP with an empty
	// status 500, as AllowUnencrypted=false does, the default of Windows.
	RefusePlain bool

	// Locale is the display language; zero is English.
	Locale wintext.Locale
	// Wide prints qwinsta in the layout of newer Windows 11.
	Wide bool
	// NoTools: quser.exe and qwinsta.exe are not there (Home editions).
	NoTools bool
	// NoPowerShell: powershell.exe is not there.
	NoPowerShell bool
	// ConstrainedLanguage: PowerShell runs scripts in constrained language mode
	// (AppLocker, WDAC), in which it compiles nothing.
	ConstrainedLanguage bool
	// PowerShell runs the script of an -EncodedCommand in place of the simulation,
	// which knows no script but the agent's. variables are the shell's. It must end
	// soon after ctx has; what it returns is the exit code. Nil: simulated.
	PowerShell func(ctx context.Context, script string, variables map[string]string, stdin io.Reader, stdout, stderr io.Writer) int
	// Input is what becomes of commands' standard input; "" is as it should be.
	Input Input
	// CodePage is the console code page of shells that ask for none; 0 is 437.
	CodePage int
	// Zone is the host's time zone, for logon times; nil is UTC.
	Zone *time.Location

	// Split cuts output at random bytes over Stream elements and Receives; nil
	// leaves it whole. It is the endpoint's from now on.
	Split *rand.Rand
	// Quotas bound what one user may have; zero fields are the defaults of
	// Windows Server 2012.
	Quotas Quotas
	// OnCommand, if set, is told each command line just before it runs, and each
	// line that the agent is sent. It may use the model: what happens between a
	// look at a session and its logoff, for example.
	OnCommand func(line string)
}

// Input is a way in which a host takes no standard input.
type Input string

// The ways.
const (
	// InputRefused answers Send with a fault.
	InputRefused Input = "refused"
	// InputEmpty gives commands an input that is at its end.
	InputEmpty Input = "empty"
)

// Quotas are winrm/config/Winrs and Service quotas.
type Quotas struct {
	// ShellsPerUser is MaxShellsPerUser; 0 is 30.
	ShellsPerUser int
	// OperationsPerUser is MaxConcurrentOperationsPerUser; 0 is 1500. The
	// commands of a living shell count even when they have ended: the
	// terminate signal does not give the unit back ([MS-WSMV] appendix A, <118>).
	OperationsPerUser int
	// IdleTimeout ends shells without requests that asked for no other; 0 is 2 h.
	IdleTimeout time.Duration
	// MaxTimeout bounds OperationTimeout (MaxTimeoutms); 0 is 60 s.
	MaxTimeout time.Duration
}

func (q Quotas) withDefaults() Quotas {
	if q.ShellsPerUser == 0 {
		q.ShellsPerUser = 30
	}
	if q.OperationsPerUser == 0 {
		q.OperationsPerUser = 1500
	}
	if q.IdleTimeout == 0 {
		q.IdleTimeout = 2 * time.Hour
	}
	if q.MaxTimeout == 0 {
		q.MaxTimeout = time.Minute
	}
	return q
}

// winrmServer is the WinRM endpoint of one host.
type winrmServer struct {
	cfg     WinRM
	machine string
	model   *Model
	log     *zap.Logger

	mu       sync.Mutex
	stopping bool
	shells   map[string]*shell
	split    *rand.Rand     // guarded by mu
	running  sync.WaitGroup // commands
}

func newWinRM(cfg WinRM, machine string, model *Model, log *zap.Logger) *winrmServer {
	cfg.Quotas = cfg.Quotas.withDefaults()
	if cfg.Locale.Name == "" {
		cfg.Locale, _ = wintext.LocaleByName("en")
	}
	if cfg.CodePage == 0 {
		cfg.CodePage = 437
	}
	if cfg.Zone == nil {
		cfg.Zone = time.UTC
	}
	return &winrmServer{cfg: cfg, machine: machine, model: model, log: log, shells: map[string]*shell{}, split: cfg.Split}
}

// maxEnvelope is MaxEnvelopeSizekb, 500.
const maxEnvelope = 500 << 10

// serve answers on ln until ctx ends, and returns when everything has ended.
func (s *winrmServer) serve(ctx context.Context, ln net.Listener) error {
	if s.cfg.TLS != nil {
		ln = tls.NewListener(ln, s.cfg.TLS)
	}
	srv := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       func(ctx context.Context, _ net.Conn) context.Context { return withConnection(ctx) },
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          zap.NewStdLog(s.log),
	}
	// http.Server.Close waits neither for handlers nor for its goroutines.
	var handlers, conns sync.WaitGroup
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			conns.Done()
		}
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		s.ServeHTTP(w, r)
	})
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	err := srv.Serve(ln)
	srv.Close()
	s.stopAll()
	conns.Wait()
	handlers.Wait()
	s.running.Wait()
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve WinRM on %s: %w", ln.Addr(), err)
}

// stopAll ends all shells and lets no new ones begin.
func (s *winrmServer) stopAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for _, sh := range s.shells {
		s.forget(sh)
	}
}

// ServeHTTP answers one request.
func (s *winrmServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/wsman" {
		http.NotFound(w, r)
		return
	}
	who, conn, ok := s.authenticate(w, r)
	if !ok {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxEnvelope)) // keep the connection, NTLM needs it
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEnvelope))
	if err != nil {
		http.Error(w, "", http.StatusRequestEntityTooLarge)
		return
	}
	a := &answer{w: w, conn: conn, machine: s.machine}
	switch {
	case isSealed(r.Header.Get("Content-Type")):
		if a.seal = conn.seal; a.seal == nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if body, err = a.seal.open(body); err != nil {
			s.log.Debug("WinRM message refused", zap.Error(err))
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	case len(body) == 0 && r.Header.Get("Authorization") == "":
		// A client that begins anew on a connection that is authenticated
		// already: masterzen/winrm does so for each message that it seals.
		conn.forget()
		s.unauthorized(w)
		return
	case len(body) == 0: // a client that only authenticates, to seal from now on
		w.WriteHeader(http.StatusOK)
		return
	case s.cfg.RefusePlain && s.cfg.TLS == nil:
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	a.request, err = parseRequest(body)
	if err != nil {
		a.fault(schemaFault(err.Error()))
		return
	}
	if s.misbehave(a, r) {
		return
	}
	s.answer(a, r, who)
}

// answer is where one request's answer goes.
type answer struct {
	w       http.ResponseWriter
	conn    *connection
	machine string
	request *request
	seal    *sealer       // the request was sealed, and so is the answer
	text    string        // replaces the text of faults
	slow    time.Duration // before each byte
}

// send writes an envelope.
func (a *answer) send(status int, envelope []byte) {
	kind := soapType
	if a.seal != nil {
		envelope, kind = a.seal.close(envelope), sealedType
	}
	a.w.Header().Set("Content-Type", kind)
	a.w.Header().Set("Server", "Microsoft-HTTPAPI/2.0")
	a.w.Header().Set("Content-Length", fmt.Sprint(len(envelope)))
	a.w.WriteHeader(status)
	if a.slow == 0 {
		_, _ = a.w.Write(envelope) // the client has gone: nothing to tell it
		return
	}
	for i := range envelope {
		time.Sleep(a.slow)
		if _, err := a.w.Write(envelope[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(a.w).Flush()
	}
}

func (a *answer) ok(action, body string) { a.send(http.StatusOK, reply(a.request, action, body)) }

func (a *answer) fault(f *wsFault) {
	a.send(http.StatusInternalServerError, f.envelope(a.request, a.machine, a.text))
}

// misbehave does what Options.Faults want for this request. It is true if that
// was the answer.
func (s *winrmServer) misbehave(a *answer, r *http.Request) bool {
	f, ok := s.model.takeFault(a.request.action)
	if !ok {
		return false
	}
	a.text = f.Text
	switch f.Kind {
	case FaultShellVanishes:
		s.mu.Lock()
		if sh := s.shells[a.request.shellID]; sh != nil {
			s.forget(sh)
		}
		s.mu.Unlock()
		a.fault(noSuchShell(a.request.shellID))
	case FaultShellQuota:
		a.fault(shellQuota(s.cfg.Quotas.ShellsPerUser))
	case FaultOperationQuota:
		a.fault(operationQuota(s.cfg.Quotas.OperationsPerUser))
	case FaultTimedOut:
		a.fault(timedOut())
	case FaultInputRefused:
		a.fault(inputRefused())
	case FaultEmpty500:
		a.w.WriteHeader(http.StatusInternalServerError)
	case FaultUnauthorized:
		a.conn.forget()
		s.unauthorized(a.w)
	case FaultBadGateway:
		a.w.Header().Set("Content-Type", "text/html")
		a.w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(a.w, "<html><body><h1>502 Bad Gateway</h1>"+strings.Repeat("<!-- padding -->", 32)+"</body></html>")
	case FaultReset:
		reset(a.w)
	case FaultBlackHole:
		<-r.Context().Done()
	case FaultSlowBody:
		a.slow = f.Pause
		return false
	case FaultHugeBody:
		a.w.Header().Set("Content-Type", soapType)
		_, _ = io.CopyN(a.w, blanks{}, f.Size)
	}
	return true
}

// reset ends the TCP connection with RST.
func reset(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	raw := c
	if t, ok := c.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	raw.Close()
}

// blanks is an endless body.
type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}
