package tlswatch

import "fmt"

// Verdict is what is known of a connection so far.
type Verdict uint8

// The verdicts. Undecided may become any other, Accepted may become Entering,
// Refused or Unknown; the others are final.
const (
	Undecided Verdict = iota
	// Accepted: the host has accepted the credentials, and the client has not sent
	// anything since.
	Accepted
	// Entering: after that the client has begun its next record, which is in the
	// bytes that Client was given last.
	Entering
	// Refused: the host ended the TLS session before it accepted, or the client did
	// before it went on.
	Refused
	// Unknown: it cannot be told. Why says why.
	Unknown
)

func (v Verdict) String() string {
	return [...]string{"undecided", "accepted", "entering", "refused", "unknown"}[v%5]
}

const (
	earlyResult   = 4  // bytes of an Early User Authorization Result
	attachConfirm = 11 // of an MCS Attach User Confirm
	channelJoin   = 12 // of an MCS Channel Join Request, the smallest that a client goes on with
	alert         = 2  // of a TLS alert

	// leastFlight13 is less than any host sends between ServerHello and the end of
	// the handshake in TLS 1.3, where its certificate is: what is before it is no
	// proof. The first part, EncryptedExtensions, could be made to have 11 bytes.
	leastFlight13 = 256
	// mostRecords of the host are looked at. Kerberos with user-to-user and some
	// tickets needs fewer than 20.
	mostRecords = 64
)

// phase is how far the host is.
type phase uint8

const (
	phaseHello     phase = iota // its ServerHello is awaited
	phasePlain                  // TLS 1.2: its messages up to ChangeCipherSpec
	phaseFinished               // TLS 1.2: its Finished
	phaseProtected              // everything is encrypted
)

// Watcher watches one connection from behind the Connection Confirm on. Its two
// methods take the bytes of the two directions, cut in any way, in an order in
// which they may have been sent: bytes that answer others come after them. It is
// not safe for concurrent use.
type Watcher struct {
	early   bool // the host sends an Early User Authorization Result
	verdict Verdict
	why     string

	host     records
	hostMsgs messages
	inRecord record // of the host
	phase    phase
	size     sizes
	version  int
	retried  bool
	seen     [msgCertificateStatus + 1]bool // TLS 1.2: messages of the host in plain text
	flight   int                            // TLS 1.3: bytes that the host has sent encrypted
	count    int                            // records of the host
	data     int                            // TLS 1.2: those with application data

	client     records
	clientMsgs messages
	clientRec  record
	hellos     int
}

// New returns a Watcher for a connection whose host chose HYBRID_EX, or else HYBRID.
func New(hybridEx bool) *Watcher { return &Watcher{early: hybridEx} }

// Verdict is what is known so far.
func (w *Watcher) Verdict() Verdict { return w.verdict }

// Why says in a few words why the verdict is Unknown; "" if it is not.
func (w *Watcher) Why() string { return w.why }

// Host takes what the host has sent.
func (w *Watcher) Host(b []byte) Verdict {
	for len(b) > 0 && w.verdict == Undecided {
		body, rest, rec, begun, ok := w.host.next(b)
		b = rest
		switch {
		case !ok:
			w.unknown("the host does not speak TLS")
		case begun:
			w.inRecord = rec
			w.hostRecord(rec)
		case w.inRecord.kind == typeHandshake && (w.phase == phaseHello || w.phase == phasePlain):
			w.hostHandshake(body)
		}
	}
	return w.verdict
}

// hostRecord judges a record by its header.
func (w *Watcher) hostRecord(rec record) {
	if w.count++; w.count > mostRecords {
		w.unknown("the host has sent many records and none that tells")
		return
	}
	if rec.kind == typeAlert {
		w.verdict = Refused
		return
	}
	inside := !w.hostMsgs.between()
	switch {
	case inside && rec.kind != typeHandshake:
		w.unknown("a handshake message of the host is cut off")
	case w.phase == phaseHello && rec.kind == typeHandshake,
		w.phase == phaseHello && rec.kind == typeChangeCipherSpec && w.retried,
		w.phase == phasePlain && rec.kind == typeHandshake:
	case w.phase == phasePlain && rec.kind == typeChangeCipherSpec:
		if !w.seen[msgCertificate] || !w.seen[msgServerHelloDone] {
			w.unknown("a resumed TLS session")
			return
		}
		w.phase = phaseFinished
	case w.phase == phaseFinished && rec.kind == typeHandshake:
		w.phase = phaseProtected
	case w.phase == phaseProtected && w.version == tls13 && rec.kind == typeChangeCipherSpec: // for old firewalls, RFC 8446 D.4
	case w.phase == phaseProtected && rec.kind == typeApplicationData:
		w.hostData(rec)
	case w.phase == phaseProtected:
		w.unknown("TLS renegotiation")
	default:
		w.unknown(fmt.Sprintf("a record of type %d where the host has none", rec.kind))
	}
}

// hostData judges an encrypted record of the host by its size.
func (w *Watcher) hostData(rec record) {
	low, high, ok := w.size(rec.length)
	if !ok {
		w.unknown(fmt.Sprintf("the host sent a record of %d bytes, which its cipher suite cannot make", rec.length))
		return
	}
	w.data++
	early := w.flight < leastFlight13
	w.flight += high
	proof := low <= attachConfirm && attachConfirm <= high || w.early && low <= earlyResult && earlyResult <= high
	switch {
	case w.version == tls13 && high == alert:
		w.verdict = Refused
	case !proof || w.version == tls13 && early:
	case w.version == tls12 && w.data == 1:
		// CredSSP begins with something larger: this host cuts what it sends.
		w.unknown("the host's first record is small")
	default:
		w.verdict = Accepted
	}
}

// hostHandshake reads the host's handshake as long as it is in plain text.
func (w *Watcher) hostHandshake(b []byte) {
	for len(b) > 0 && w.verdict == Undecided {
		msg, rest, ended, ok := w.hostMsgs.next(b)
		b = rest
		switch {
		case !ok:
			w.unknown("the host's hello is too long")
		case !ended:
		case w.phase == phaseHello:
			w.serverHello(msg)
			if w.version == tls13 && len(b) > 0 {
				w.unknown("something plain behind the host's hello")
			}
		default:
			switch msg.kind {
			case msgCertificate, msgCertificateStatus, msgServerKeyExchange, msgCertificateAsk, msgServerHelloDone, msgNewSessionTicket:
				w.seen[msg.kind] = true
			default:
				w.unknown(fmt.Sprintf("a handshake message of type %d", msg.kind))
			}
		}
	}
}

func (w *Watcher) serverHello(msg message) {
	hellos := 1
	if w.retried {
		hellos = 2
	}
	if msg.kind != msgServerHello || w.hellos != hellos || !w.clientMsgs.between() {
		w.unknown("the host's first message is no answer to one hello")
		return
	}
	c, err := parseServerHello(msg.content)
	switch {
	case err != nil:
		w.unknown(err.Error())
	case c.retry && w.retried:
		w.unknown("the host asks for a third hello")
	case c.retry:
		w.retried = true
	default:
		w.version, w.size = c.version, c.size
		w.phase = phasePlain
		if c.version == tls13 {
			w.phase = phaseProtected
		}
	}
}

// Client takes what the client has sent.
func (w *Watcher) Client(b []byte) Verdict {
	for len(b) > 0 && (w.verdict == Undecided || w.verdict == Accepted) {
		body, rest, rec, begun, ok := w.client.next(b)
		b = rest
		switch {
		case !ok:
			w.unknown("the client does not speak TLS")
		case begun:
			w.clientRec = rec
			if w.verdict == Accepted {
				w.clientNext(rec)
			}
		case w.phase == phaseHello && w.clientRec.kind == typeHandshake:
			w.clientHandshake(body)
		}
	}
	return w.verdict
}

// clientHandshake reads the client's hellos.
func (w *Watcher) clientHandshake(b []byte) {
	for len(b) > 0 && w.verdict == Undecided {
		msg, rest, ended, ok := w.clientMsgs.next(b)
		b = rest
		switch {
		case !ok:
			w.unknown("the client's hello is too long")
		case !ended:
		case msg.kind != msgClientHello:
			w.unknown("the client does not begin with a hello")
		default:
			w.hellos++
			if err := checkClientHello(msg.content); err != nil {
				w.unknown(err.Error())
			}
		}
	}
}

// clientNext looks at a record that the client has begun after it was accepted.
func (w *Watcher) clientNext(rec record) {
	low, high, ok := w.size(rec.length)
	switch {
	case rec.kind == typeAlert, w.version == tls13 && ok && high == alert:
		w.verdict = Refused // it says good-bye
	case rec.kind == typeApplicationData && ok && low >= channelJoin:
		w.verdict = Entering
	}
}

func (w *Watcher) unknown(why string) { w.verdict, w.why = Unknown, why }
