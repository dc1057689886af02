// Package webhook tells another system of what the broker did, by one signed POST
// a record. It never blocks who records: messages wait in a bounded queue, are
// tried again when the receiver is away, and end in a file of undelivered ones,
// which Resend sends again.
//
// A message is signed as the Standard Webhooks specification has it
// (https://www.standardwebhooks.com): the headers webhook-id, webhook-timestamp and
// webhook-signature, which is "v1," and the base64 of the HMAC-SHA256 of
// id.timestamp.body. An id stays the same over all tries, so that a receiver can
// tell that it has seen a message.
package webhook

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	mrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/audit"
)

// Defaults of Config.
const (
	DefaultTimeout = 5 * time.Second
	DefaultTries   = 5
	DefaultPause   = time.Second
)

const (
	// queueLength is how many messages wait for a slow receiver.
	queueLength = 1024
	// longestPause bounds the pause between two tries, whatever the receiver asks for.
	longestPause = time.Minute
)

// Config says where messages go. It is immutable.
type Config struct {
	// URL is where they are posted.
	URL string
	// Secret is what they are signed with, read each time; nil: they are not signed.
	// One that begins with whsec_ is base64 behind that.
	Secret func() (string, error)
	// Events are those that are told.
	Events []audit.Event
	// Timeout bounds one try; 0 means DefaultTimeout.
	Timeout time.Duration
	// Tries is how often a message is tried; 0 means DefaultTries. Once one was given
	// up, those behind it are tried once each until the receiver takes one again.
	Tries int
	// Pause is the time before the second try, which doubles each time, give or take
	// half of it; 0 means DefaultPause.
	Pause time.Duration
	// Undelivered is the file for messages that were given up, "" for none.
	Undelivered string
	// Client posts them; nil means one with the system's certificates. Redirects are
	// not followed.
	Client *http.Client
	// UserAgent is the broker and its version.
	UserAgent string
	// Text is what a message says to people; nil: nothing.
	Text func(*audit.Record) string
}

func (c *Config) timeout() time.Duration { return orDefault(c.Timeout, DefaultTimeout) }

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// Message is what is posted, as JSON.
type Message struct {
	// ID is different for each message.
	ID string `json:"id"`
	// Text is one line for people. Chat services show a field of this name.
	Text string `json:"text,omitempty"`
	// Record is the audit's, without the candidates.
	Record audit.Record `json:"record"`
}

// Stats counts what became of the messages so far.
type Stats struct {
	// Delivered were taken by the receiver.
	Delivered uint64
	// Undelivered were given up, and are in the file if there is one.
	Undelivered uint64
	// Lost could be neither delivered nor kept in the file: the queue was full, or
	// the file could not be written.
	Lost uint64
	// Retries are tries after the first one.
	Retries uint64
	// Waiting are in the queue now.
	Waiting int
}

// Sender sends messages. Make one with New, give it a Config, and Run it.
type Sender struct {
	log    *zap.Logger
	config atomic.Pointer[Config] // nil: nothing is sent
	queue  chan Message

	delivered, undelivered, lost, retries atomic.Uint64
	losing                                sync.Once
}

// New makes a Sender without a receiver. It starts nothing. A nil log is silent.
func New(log *zap.Logger) *Sender {
	if log == nil {
		log = zap.NewNop()
	}
	return &Sender{log: log, queue: make(chan Message, queueLength)}
}

// SetConfig says where messages go from now on, those that wait already among
// them; nil: nowhere.
func (s *Sender) SetConfig(c *Config) {
	if old := s.config.Swap(c); old != nil && old.Client != nil {
		old.Client.CloseIdleConnections()
	}
}

// Stats are the counts at this moment.
func (s *Sender) Stats() Stats {
	return Stats{
		Delivered: s.delivered.Load(), Undelivered: s.undelivered.Load(), Lost: s.lost.Load(),
		Retries: s.retries.Load(), Waiting: len(s.queue),
	}
}

// Record takes one record, if it is of an event that is to be told. It returns at
// once; r must not change any more.
func (s *Sender) Record(r audit.Record) {
	c := s.config.Load()
	if c == nil || !slices.Contains(c.Events, r.Event) {
		return
	}
	m := Message{ID: newID(), Record: r}
	m.Record.Decision.Candidates = nil
	if c.Text != nil {
		m.Text = c.Text(&m.Record)
	}
	select {
	case s.queue <- m:
	default:
		s.lost.Add(1)
		s.losing.Do(func() {
			s.log.Error("webhook messages are being lost: the receiver is too slow", zap.Int("waiting", queueLength))
		})
	}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return "msg_" + hex.EncodeToString(b[:])
}

// Run sends messages until ctx ends. It returns nil. What still waits then is for
// Close.
func (s *Sender) Run(ctx context.Context) error {
	away := false // the last message was given up
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.queue:
			tries, err := s.send(ctx, m, away)
			if err != nil {
				s.giveUp(m, tries, err)
			} else {
				s.delivered.Add(1)
			}
			away = err != nil
		}
	}
}

// errStopped says that the broker stopped before a message was its turn.
var errStopped = errors.New("the broker stopped")

// Close puts what still waits into the file of undelivered messages. Call it when
// Run has returned and nobody records any more; twice is harmless.
func (s *Sender) Close() {
	for len(s.queue) > 0 {
		s.giveUp(<-s.queue, 0, errStopped)
	}
	s.SetConfig(nil)
}

// send tries until m is delivered, or given up.
func (s *Sender) send(ctx context.Context, m Message, once bool) (tries int, err error) {
	for {
		c := s.config.Load() // a reload may have mended it
		if c == nil {
			return tries, errOff
		}
		tries++
		err := post(ctx, c, m)
		if err == nil || ctx.Err() != nil {
			return tries, err
		}
		pause := pauseAfter(c, tries, err)
		if once || pause < 0 || tries >= orDefault(c.Tries, DefaultTries) {
			return tries, err
		}
		s.log.Warn("a webhook message was not taken; it is tried again", zap.String("id", m.ID), zap.Int("tries", tries), zap.Duration("pause", pause), zap.Error(err))
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return tries, err
		case <-t.C:
		}
		s.retries.Add(1)
	}
}

// pauseAfter is the time to wait after so many tries, negative if err says that
// another one would be in vain. It is jittered, so that many brokers do not come
// back at the same moment.
func pauseAfter(c *Config, tries int, err error) time.Duration {
	asked, again := retryable(err)
	if !again {
		return -1
	}
	p := orDefault(c.Pause, DefaultPause) << min(tries-1, 10)
	p = p/2 + mrand.N(p)
	return min(longestPause, max(p, asked))
}

// giveUp keeps m for Resend.
func (s *Sender) giveUp(m Message, tries int, err error) {
	c := s.config.Load()
	if c == nil || c.Undelivered == "" {
		s.lost.Add(1)
		s.log.Error("a webhook message is lost", zap.String("id", m.ID), zap.Int("tries", tries), zap.Error(err))
		return
	}
	kept := keep(c.Undelivered, Undelivered{Time: time.Now(), Tries: tries, Error: err.Error(), Message: m})
	if kept != nil {
		s.lost.Add(1)
		s.log.Error("a webhook message is lost", zap.String("id", m.ID), zap.Int("tries", tries), zap.Error(err), zap.NamedError("file", kept))
		return
	}
	s.undelivered.Add(1)
	s.log.Error("a webhook message was given up; rdpbroker audit resend sends it again", zap.String("id", m.ID), zap.Int("tries", tries), zap.Error(err))
}

// body is m as it is posted. Two calls give the same.
func (m Message) body() ([]byte, error) { return json.Marshal(m) }
