package winagent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// protocol is the version of the lines that this package understands.
const protocol = 1

// Bounds of what an agent may say. A session takes some 300 bytes in a state and up
// to 5 kB in a work.
const (
	maxLine     = 4 << 20
	maxSessions = 20000
)

// Kinds of lines.
const (
	kindHello  = "hello"
	kindState  = "state"
	kindWork   = "work"
	kindBeat   = "beat"
	kindPong   = "pong"
	kindError  = "error"
	kindCannot = "cannot"
	kindBye    = "bye"

	// Answers to orders.
	kindLogoff     = "logoff"
	kindDisconnect = "disconnect"
	kindMessage    = "message"
)

// line is what the agent says. Fields that are not of its Kind are zero.
type line struct {
	Kind string `json:"t"`

	// hello
	Version int    `json:"v"`
	Mode    string `json:"mode"`
	Host    string `json:"host"`
	OS      string `json:"os"`
	PID     int    `json:"pid"`
	Own     int    `json:"own"`
	Bits    int    `json:"bits"`
	As      string `json:"as"`
	Admin   *bool  `json:"admin"` // nil: not known

	// Up is milliseconds of the agent's life: at a reading's begin in state and
	// beat, at the answer in pong.
	Up int64 `json:"up"`

	// state; work and beat have Now, Hash and Sessions, a beat that was not asked for
	// or has nothing new without Sessions
	Now      int64         `json:"now"` // FILETIME
	Hash     string        `json:"hash"`
	Console  int           `json:"console"`
	Facts    facts         `json:"facts"`
	Sessions []sessionLine `json:"sessions"`

	// Request is the REQ of the command that this answers; "" if it does not.
	Request string `json:"req"`

	// logoff, disconnect, message
	ID     int    `json:"id"`
	Result string `json:"result"`
	State  int    `json:"state"`

	// Why and Code belong to answers to orders, error, cannot and bye.
	Why    string `json:"why"`
	Code   int    `json:"code"`
	What   string `json:"what"`
	Text   string `json:"text"`
	Detail string `json:"detail"`
	Base64 []byte `json:"base64"`
}

// sessionLine is one session as the agent tells it. Times are FILETIMEs, 0 if
// Windows did not tell. work has ID, Logon, and what is below them; beat has ID, Logon
// and Input.
type sessionLine struct {
	ID         int    `json:"id"`
	State      int    `json:"state"` // WTS_CONNECTSTATE_CLASS
	Name       string `json:"name"`
	User       string `json:"user"`
	Domain     string `json:"domain"`
	Logon      int64  `json:"logon"`
	Disconnect int64  `json:"disc"`
	Input      int64  `json:"input"`
	Client     string `json:"client"`
	Addr       string `json:"addr"`
	Program    string `json:"program"`
	Error      int    `json:"error"` // why its details are missing, a Win32 code
	Keep       string `json:"keep"`  // the user's marker, if Marked
	Marked     int64  `json:"marked"`
	Pending    bool   `json:"pending"` // whether there is a marker is not known yet

	Processes []string `json:"procs"` // nil: as before
	CPU       int64    `json:"cpu"`
	IO        uint64   `json:"io"`
	Unread    bool     `json:"unread"` // its processes cannot be seen any more
}

// parseLine reads one line. Fields that are not known are ignored, and so is a
// kind that is not known: its Kind is all that is valid then. A hello of another
// protocol version is an error.
func parseLine(b []byte) (*line, error) {
	l := &line{}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("not a line of the agent: %w", err)
	}
	switch {
	case l.Kind == "":
		return nil, errors.New("not a line of the agent: it has no kind")
	case l.Kind == kindHello && l.Version != protocol:
		return nil, fmt.Errorf("the agent speaks version %d of the protocol, not %d", l.Version, protocol)
	case (l.Kind == kindState || l.Kind == kindWork) && l.Sessions == nil:
		return nil, fmt.Errorf("a %s without a list of sessions", l.Kind)
	case len(l.Sessions) > maxSessions:
		return nil, fmt.Errorf("a state with %d sessions", len(l.Sessions))
	}
	return l, nil
}

// lineReader cuts the agent's output into lines of bounded length. It keeps no
// more than a small buffer between them: states are long, and seldom.
type lineReader struct{ in *bufio.Reader }

func newLineReader(r io.Reader) lineReader { return lineReader{bufio.NewReaderSize(r, 1024)} }

// next is the next line without the space around it. The error is io.EOF after the
// last one,
// which need not have an end.
func (r lineReader) next() (string, error) {
	var long []byte
	for {
		part, err := r.in.ReadSlice('\n')
		switch {
		case len(long)+len(part) > maxLine:
			return "", bufio.ErrTooLong
		case err == bufio.ErrBufferFull:
			long = append(long, part...)
			continue
		case err == io.EOF && len(long)+len(part) > 0:
			err = nil
		}
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(append(long, part...))), nil
	}
}

// excerpt is untrusted text cut for errors and logs.
func excerpt(s string) string {
	const most = 200
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}
