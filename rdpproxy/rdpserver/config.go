package rdpserver

import (
	"crypto/tls"
	"time"

	"go.uber.org/zap"
)

// Config is how a server treats its connections. TLS (or Security) is all that
// must be set. A Config is not changed and may serve many connections.
type Config struct {
	// TLS is the server's side of TLS, with at least one certificate. Versions
	// below TLS 1.2 are not spoken, whatever it says.
	TLS *tls.Config
	// Security lists the ways to secure a connection, the preferred one first.
	// Nil: plain TLS with the configuration above.
	Security []Security
	// CheckPassword is asked at most once per connection, by Handshake, when the
	// client sent a password and has not shown it before (Authenticated); its answer is ClientInfo.PasswordOK. user and
	// domain are as the client wrote them (user may be DOM\user or a UPN). The
	// password is UTF-8 and is wiped after the call, as is the packet that it came
	// in: do not keep it. (What crypto/tls has buffered is out of reach.) Nil: the
	// password is wiped unread.
	CheckPassword func(user, domain string, password []byte) bool
	// StartTimeout bounds Handshake, and Activate once more. 0: 30 s.
	StartTimeout time.Duration
	// IdleTimeout ends Run when the client has sent nothing for so long. 0: never,
	// because a user who only looks sends nothing; a vanished client is then
	// noticed by TCP keep-alive, which net.ListenConfig turns on.
	IdleTimeout time.Duration
	// PacketTimeout bounds one packet: the rest of it after its first byte, and
	// each write. 0: 15 s.
	PacketTimeout time.Duration
	// LeaveTimeout is how long a client may take to leave by itself after
	// ErrorInfo or Redirect. 0: 5 s.
	LeaveTimeout time.Duration
	// Log gets debug lines about what was dropped or refused. Nil: none.
	Log *zap.Logger
}

func (cfg Config) withDefaults() Config {
	orElse := func(d *time.Duration, standard time.Duration) {
		if *d <= 0 {
			*d = standard
		}
	}
	orElse(&cfg.StartTimeout, 30*time.Second)
	orElse(&cfg.PacketTimeout, 15*time.Second)
	orElse(&cfg.LeaveTimeout, 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Security == nil {
		cfg.Security = []Security{plainTLS(cfg.TLS)}
	}
	return cfg
}
