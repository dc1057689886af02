package simhost

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Manager is an account that may use the WinRM endpoint.
type Manager struct {
	Account  sessions.Account
	Password string
	// LowRights: the account has no rights on sessions of others. It does not
	// see hidden ones, and may log off nobody.
	LowRights bool
}

// connection is what the endpoint remembers of one TCP connection: NTLM
// authenticates connections, not requests.
type connection struct {
	mu        sync.Mutex
	challenge *ntlmChallenge // a handshake is under way
	manager   *Manager       // who it is; nil before that is known
	seal      *sealer        // set with manager if the client can seal messages
}

// forget makes the client authenticate again.
func (c *connection) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manager, c.challenge, c.seal = nil, nil, nil
}

type connectionKey struct{}

func withConnection(ctx context.Context) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

// authenticate tells who sends r. If ok is false, the answer has been written.
func (s *winrmServer) authenticate(w http.ResponseWriter, r *http.Request) (who *Manager, conn *connection, ok bool) {
	conn, _ = r.Context().Value(connectionKey{}).(*connection)
	if conn == nil { // not served by us: a test that calls the handler itself
		conn = &connection{}
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "":
		if conn.manager != nil {
			return conn.manager, conn, true
		}
	case "basic":
		if name, pw, given := r.BasicAuth(); given && s.cfg.Basic {
			if m := s.manager(sessions.ParseAccount(name)); m != nil && m.Password == pw {
				return m, conn, true
			}
		}
	case "negotiate":
		token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if err == nil && !s.cfg.NoNTLM {
			if m := s.negotiate(w, conn, token); m != nil {
				return m, conn, true
			}
			if conn.challenge != nil {
				return nil, nil, false // the challenge has been written
			}
		}
	}
	conn.manager, conn.challenge, conn.seal = nil, nil, nil
	s.unauthorized(w)
	return nil, nil, false
}

// negotiate takes one step of an NTLM handshake. It needs conn.mu.
func (s *winrmServer) negotiate(w http.ResponseWriter, conn *connection, token []byte) *Manager {
	if kind, _ := ntlmKind(token); kind == 1 || conn.challenge == nil {
		conn.challenge = nil
		var nonce [8]byte
		rand.Read(nonce[:]) // never fails
		c, err := newNTLMChallenge(token, s.machine, nonce, s.model.HostTime())
		if err != nil {
			return nil
		}
		conn.challenge, conn.manager = c, nil
		w.Header().Set("WWW-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(c.challenge))
		w.WriteHeader(http.StatusUnauthorized)
		return nil
	}
	c := conn.challenge
	conn.challenge = nil
	var who *Manager
	session, err := c.verify(token, channelBindings(s.cfg.TLS), func(domain, user string) (string, bool) {
		a := sessions.ParseAccount(user)
		if domain != "" {
			a.Domain = domain
		}
		if who = s.manager(a); who == nil {
			return "", false
		}
		return who.Password, true
	})
	if err != nil {
		return nil
	}
	conn.manager, conn.seal = who, newSealer(session)
	return who
}

func (s *winrmServer) manager(a sessions.Account) *Manager {
	for i := range s.cfg.Managers {
		m := &s.cfg.Managers[i]
		// A client's domain may be the name of the machine: a local account.
		if m.Account.Matches(a) || (strings.EqualFold(a.Domain, s.machine) && m.Account.Matches(sessions.Account{User: a.User})) {
			return m
		}
	}
	return nil
}

func (s *winrmServer) unauthorized(w http.ResponseWriter) {
	if !s.cfg.NoNTLM {
		w.Header().Add("WWW-Authenticate", "Negotiate")
	}
	if s.cfg.Basic {
		w.Header().Add("WWW-Authenticate", `Basic realm="WSMAN"`)
	}
	w.WriteHeader(http.StatusUnauthorized)
}
