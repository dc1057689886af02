package winagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// link is one running agent. run is its only user of the process's streams.
type link struct {
	cfg  Config
	log  *zap.Logger
	proc Process
	// deliver is told each reading, from run's goroutine.
	deliver func(*link, *sessions.Report)
	cancel  context.CancelFunc // ends run
	deaf    bool               // it takes no commands
	apart   bool               // it was started for one order, and reads no sessions

	outgoing chan outgoing
	refresh  chan struct{}
	newest   atomic.Pointer[sessions.Report]
	ready    chan struct{} // closed with the first reading
	ended    chan struct{} // closed when run has returned; err is valid then
	err      error

	mu      sync.Mutex
	waiting map[string]chan *line // orders under way, by request
	next    int                   // the number of the next request

	// These belong to run's loop.
	hello    *line
	lastHash string // of the newest state
	pending  bool   // that state has sessions whose markers are not known yet
	clock    agentClock
	work     workload
	sentAt   map[string]time.Time // of pings and snapshots, by request
	failure  *line                // the newest error line since the last reading
	readErr  error                // why there are no more lines, valid when their channel is closed
}

// outgoing is something to send. result, if not nil, takes one error.
type outgoing struct {
	data   []byte
	result chan error
}

func newLink(cfg Config, deliver func(*link, *sessions.Report), log *zap.Logger) *link {
	return &link{
		cfg: cfg, log: log, deliver: deliver,
		outgoing: make(chan outgoing, 16), refresh: make(chan struct{}, 1), ready: make(chan struct{}), ended: make(chan struct{}),
		waiting: map[string]chan *line{}, sentAt: map[string]time.Time{},
	}
}

// run serves the agent until it is lost or ctx ends, and closes its process.
func (l *link) run(ctx context.Context) {
	defer close(l.ended)
	defer l.cancel()
	g, ctx := errgroup.WithContext(ctx)
	lines := make(chan *line)
	var said stderrTail
	silent := make(chan struct{}) // closed at the end of its error output
	g.Go(func() error {           // its error is serve's to return, after the last line
		defer close(lines)
		l.readErr = l.read(ctx, lines)
		select { // what it says of its end may be under way
		case <-silent:
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return nil
	})
	g.Go(func() error {
		defer close(silent)
		// It is mostly silent, and io.Copy would hold 32 kB for each host.
		_, _ = io.CopyBuffer(&said, l.proc.Stderr(), make([]byte, 512))
		return nil
	})
	g.Go(func() error { return l.send(ctx) })
	g.Go(func() error { return l.serve(ctx, lines) })
	g.Go(func() error { // the readers end when the process is closed
		<-ctx.Done()
		return l.proc.Close()
	})
	l.err = l.explain(g.Wait(), said.String())
}

// errUnheard: the agent has not said a word since it was started.
var errUnheard = errors.New("nothing has been heard from the agent since its start")

// errEnded: the agent's output is over.
var errEnded = errors.New("the agent has ended")

// explain says more of an agent that has ended: at its start, what the host lacks.
func (l *link) explain(err error, stderr string) error {
	if !errors.Is(err, errEnded) {
		return err
	}
	code := l.proc.ExitCode()
	switch {
	case l.hello != nil:
		return fmt.Errorf("%w, exit code %d: %q", err, code, excerpt(stderr))
	case (code == 1 || code == 9009) && strings.Contains(stderr, "powershell.exe"):
		// cmd.exe names what is not recognized as a command, in its own language.
		return &UnusableError{Why: "PowerShell is missing", Detail: excerpt(stderr)}
	case code == 5:
		return &UnusableError{Why: WhyNoInput, Detail: excerpt(stderr)}
	}
	return fmt.Errorf("the agent ended at its start with exit code %d: %q", code, excerpt(stderr))
}

func (l *link) read(ctx context.Context, lines chan<- *line) error {
	r := newLineReader(l.proc.Stdout())
	for {
		text, err := r.next()
		if err == io.EOF {
			return errEnded
		}
		if err != nil {
			return fmt.Errorf("read from the agent: %w", err)
		}
		if !strings.HasPrefix(text, "{") { // banners and messages of others
			if text != "" {
				l.log.Debug("not from the agent", zap.String("line", strconv.Quote(excerpt(text))))
			}
			continue
		}
		ln, err := parseLine([]byte(text))
		if err != nil {
			return err
		}
		select {
		case lines <- ln:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendTimeout bounds one command on its way to the host.
const sendTimeout = 30 * time.Second

func (l *link) send(ctx context.Context) error {
	for {
		select {
		case o := <-l.outgoing:
			sendCtx, cancel := context.WithTimeout(ctx, sendTimeout)
			err := l.proc.Send(sendCtx, o.data)
			cancel()
			if o.result != nil {
				o.result <- err
			}
			if err != nil {
				l.awaitReason(ctx)
				return fmt.Errorf("send to the agent: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitReason gives an agent that takes no input time to say why, at its start:
// where it cannot run it ends without having read anything.
func (l *link) awaitReason(ctx context.Context) {
	select {
	case <-l.ready:
		return
	default:
	}
	wait := time.NewTimer(3 * time.Second)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done(): // it has been said, or the output has ended
	}
}

// serve handles lines, and keeps time.
func (l *link) serve(ctx context.Context, lines <-chan *line) error {
	ping := time.NewTicker(l.cfg.Ping)
	defer ping.Stop()
	heard, read := time.NewTimer(l.cfg.StartWithin), time.NewTimer(l.cfg.StartWithin)
	defer heard.Stop()
	defer read.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ln, ok := <-lines:
			if !ok {
				return l.readErr
			}
			isReading, err := l.handle(ctx, ln)
			if err != nil {
				return err
			}
			if l.hello != nil {
				heard.Reset(l.cfg.Lost)
			}
			if isReading {
				read.Reset(l.cfg.Lost)
			}
		case <-ping.C:
			if l.hello != nil {
				l.ask(ctx, "ping")
			}
		case <-l.refresh:
			l.ask(ctx, "snapshot", l.has()...)
		case <-heard.C:
			if l.hello == nil {
				return errUnheard
			}
			return errors.New("nothing has been heard from the agent for too long")
		case <-read.C:
			if !l.apart {
				return l.noReading()
			}
		}
	}
}

// readFunction is what cannot fail if there is to be a state.
const readFunction = "WTSEnumerateSessionsEx"

func (l *link) noReading() error {
	if l.hello == nil {
		return errUnheard
	}
	if l.failure == nil {
		return errors.New("the agent has read nothing for too long")
	}
	return fmt.Errorf("the agent cannot read the sessions: %s fails with Win32 error %d", excerpt(l.failure.What), l.failure.Code)
}

// unanswered is how long the answer to a request is waited for.
const unanswered = 5 * time.Minute

// ask sends a command that is answered with its request number, and notes when.
func (l *link) ask(ctx context.Context, command string, more ...string) {
	if l.deaf {
		return
	}
	req, now := l.request(), time.Now()
	// What could not be read is answered by an error without a number.
	maps.DeleteFunc(l.sentAt, func(_ string, at time.Time) bool { return now.Sub(at) > unanswered })
	l.sentAt[req] = now
	select {
	case l.outgoing <- outgoing{data: []byte(strings.Join(append([]string{command, req}, more...), " ") + "\n")}:
	case <-ctx.Done():
	}
}

// has is the hash of the newest state, so that the agent need not tell it again.
// Nothing if it must: a session whose marker is not known yet is kept for a while by
// each state that says so.
func (l *link) has() []string {
	if l.pending || !isHash(l.lastHash) {
		return nil
	}
	return []string{l.lastHash}
}

// isHash: it is like one, and can be sent back in a command line.
func isHash(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// request is a new request number.
func (l *link) request() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return strconv.Itoa(l.next)
}

// handle takes one line in. isReading: it says what sessions there are.
func (l *link) handle(ctx context.Context, ln *line) (isReading bool, err error) {
	if l.hello == nil && ln.Kind != kindHello && ln.Kind != kindCannot {
		return false, fmt.Errorf("the agent began with %q instead of hello", excerpt(ln.Kind))
	}
	now := time.Now()
	switch ln.Kind {
	case kindHello:
		l.hello = ln
		l.log.Info("agent runs", zap.String("computer", excerpt(ln.Host)), zap.String("as", excerpt(ln.As)), zap.Int("pid", ln.PID),
			zap.Boolp("administrator", ln.Admin), zap.String("os", excerpt(ln.OS)), zap.Int("bits", ln.Bits))
		l.ask(ctx, "ping")
	case kindCannot:
		return false, ln.unusable()
	case kindState:
		return true, l.state(ln, now)
	case kindWork:
		l.work = l.work.take(ln)
		return l.renew(ctx, ln, now), nil
	case kindBeat:
		return l.renew(ctx, ln, now), nil
	case kindPong:
		if sent, ok := l.sentAt[ln.Request]; ok {
			l.clock.pong(sent, ln.Up)
			delete(l.sentAt, ln.Request)
		}
	case kindLogoff, kindDisconnect, kindMessage:
		l.answer(ln)
	case kindError:
		l.failure = ln
		if l.newest.Load() == nil && ln.What == readFunction {
			return false, l.noReading()
		}
		l.log.Warn("agent reports an error", zap.String("what", excerpt(ln.What)), zap.Int("code", ln.Code), zap.String("text", strconv.Quote(excerpt(ln.Text))))
	case kindBye:
		l.log.Info("agent ends", zap.String("why", excerpt(ln.Why)))
	}
	return false, nil
}

func (ln *line) unusable() error {
	switch ln.Why {
	case "mode":
		return &UnusableError{Why: "constrained language mode", Detail: excerpt(ln.Detail)}
	case "stdin":
		return &UnusableError{Why: WhyNoInput}
	case "compile":
		return &UnusableError{Why: "it could not be compiled on the host", Detail: excerpt(string(ln.Base64))}
	}
	return &UnusableError{Why: excerpt(ln.Why), Detail: excerpt(ln.Detail)}
}

// readAt is when what a line tells was read: if we asked for it, after that.
func (l *link) readAt(ln *line, now time.Time) time.Time {
	at := l.clock.at(ln.Up, now)
	if sent, ok := l.sentAt[ln.Request]; ok {
		delete(l.sentAt, ln.Request)
		if sent.After(at) {
			return sent
		}
	}
	return at
}

func (l *link) state(ln *line, now time.Time) error {
	r, err := translate(l.hello, ln, l.readAt(ln, now))
	if err != nil {
		return err
	}
	if l.deaf {
		r.Warnings = append(r.Warnings, "commands get no standard input on the host: each logoff starts an agent of its own, which takes seconds")
	}
	l.lastHash, l.pending = ln.Hash, slices.ContainsFunc(ln.Sessions, func(s sessionLine) bool { return s.Pending })
	l.work = l.work.fill(r.Sessions)
	l.reading(r)
	return nil
}

func (l *link) reading(r *sessions.Report) {
	l.failure = nil
	if l.newest.Swap(r) == nil {
		close(l.ready)
	}
	l.deliver(l, r)
}

// renew makes the last reading new again, if it still holds.
func (l *link) renew(ctx context.Context, ln *line, now time.Time) bool {
	readAt, hostTime := l.readAt(ln, now), fromFileTime(ln.Now)
	last := l.newest.Load()
	if last == nil || ln.Hash != l.lastHash || hostTime.IsZero() {
		l.ask(ctx, "snapshot") // a state got lost; without a hash, so that one comes
		return false
	}
	r := *last
	switch {
	case ln.Kind == kindWork:
		r.Sessions = slices.Clone(last.Sessions)
		l.work = l.work.fill(r.Sessions)
	case len(ln.Sessions) > 0:
		r.Sessions = withInputs(last.Sessions, ln.Sessions)
	}
	r.ReadAt, r.HostTime = readAt, hostTime
	l.reading(&r)
	return true
}

// stderrTail keeps the beginning of an error output: its cause, not its echo.
type stderrTail struct{ strings.Builder }

func (t *stderrTail) Write(b []byte) (int, error) {
	const most = 2 << 10
	if room := most - t.Len(); room > 0 {
		t.Builder.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}
