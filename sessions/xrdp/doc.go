// Package xrdp reads and evicts the sessions of xrdp hosts, over ssh or with a
// local command. Nothing is installed on the host: one reading is one run of a
// POSIX shell script as root that prints what /proc shows.
//
// # What a session is
//
// xrdp's session manager keeps one process per session: a child of xrdp-sesman
// (0.9), or an xrdp-sesexec (0.10). Its process ID is the session's ID, and boot
// ID and start time of that process are its Incarnation. Its children are the
// window manager, the X server and the channel server, all owned by the user.
//
// A session is Active while a client is connected to its display: a TCP
// connection on port 5900+N with Xvnc, a unix stream with Xorg. It is Init while
// it is being made, Down when it has lost its window manager or X server.
//
// # Since when it is disconnected
//
// The channel server opens a new listening socket the moment its client goes, so
// the change time of that socket is when the session was disconnected, to some
// milliseconds. It is believed when it fits what the driver has seen itself, or,
// for sessions that it finds disconnected, what sesman's log says about the last
// logon. Otherwise DisconnectedAt is when the driver first saw the session
// disconnected. It is never earlier than the truth, and a session that was in use
// between two readings gets a new one.
//
// # What users can ask for
//
// A file .config/rdpbroker/keep in their home makes a user's disconnected sessions
// be kept; see sessions.KeepUntil for what it may hold and how long it counts. It
// is read with the user's own rights, and only on hosts that have setpriv and
// timeout (util-linux, coreutils). Messages to users are not sent: no program for
// that is on every host, and to draw on a user's display is to trust their X server.
//
// # How a session is ended
//
// In one script under a lock on the host: only if session and window manager are
// the processes described, by ID and start time, of the same user, still not
// connected to, and neither used nor logged on to since. Then the window manager
// gets a TERM signal, and the session manager ends the rest. Nothing is ever killed by force, as that
// leaves stale sockets which keep the host from starting sessions.
//
// A few milliseconds cannot be closed from outside: a user whom the session
// manager lets back in at the very moment of the signal is sent to a session that
// ends, and has to log on once more.
package xrdp
