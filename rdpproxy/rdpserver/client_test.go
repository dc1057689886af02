package rdpserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rdpbroker/rdpbroker/rdpproxy/x224"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test. It is never waited for in a test that
// passes.
const patience = 30 * time.Second

// testTLS is the server's side of TLS with a certificate of its own.
func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "rdpserver.test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// loopback is both ends of a TCP connection. The test closes what nobody else does.
func loopback(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// shaken is the result of a Handshake.
type shaken struct {
	conn *Conn
	err  error
}

// handshake runs Handshake on a new connection; the test plays the client.
func handshake(t testing.TB, ctx context.Context, cfg Config) (net.Conn, <-chan shaken) {
	t.Helper()
	client, server := loopback(t)
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	result := make(chan shaken, 1)
	go func() {
		conn, err := Handshake(ctx, server, cfg)
		result <- shaken{conn, err}
	}()
	return client, result
}

// mstsc replays the packets of a real mstsc.
type mstsc struct {
	testing.TB
	net.Conn
	frames map[int][]byte
}

// connectionRequest is that of mstsc, with other protocols.
func connectionRequest(protocols x224.Protocol) []byte {
	r := x224.Request{HasCookie: true, Cookie: "Administr", Negotiation: &x224.Negotiation{Protocols: protocols}}
	return r.Append(nil)
}

// connect takes the client up to TLS.
func connect(t testing.TB, nc net.Conn) *mstsc {
	t.Helper()
	c := &mstsc{t, nc, capture(t)}
	c.send(connectionRequest(x224.ProtocolSSL))
	c.expect("connection confirm", unhex(t, "030000130ed000001234000201080001000000"))
	secured := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.Conn = secured
	return c
}

func (c *mstsc) send(packets ...[]byte) {
	c.Helper()
	for _, p := range packets {
		if _, err := c.Write(p); err != nil {
			c.Fatal(err)
		}
	}
}

// receive is the next packet of the server.
func (c *mstsc) receive() []byte {
	c.Helper()
	packet, err := x224.ReadTPKT(c, 1<<16)
	if err != nil {
		c.Fatal(err)
	}
	return packet
}

func (c *mstsc) expect(what string, want []byte) {
	c.Helper()
	if got := c.receive(); string(got) != string(want) {
		c.Fatalf("%s:\n got %x\nwant %x", what, got, want)
	}
}

// expectEnd waits until the server has closed.
func (c *mstsc) expectEnd() {
	c.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		c.Fatalf("at the end: %x, %v", rest, err)
	}
}

// joinChannels takes the client from MCS Connect Initial to the last join.
func (c *mstsc) joinChannels() {
	c.Helper()
	c.send(c.frames[11])
	// The answer is that of Windows but for the version and early capabilities.
	want := serverData{version: rdp5, requested: x224.ProtocolSSL, channels: 4, messageChannel: 1008, multitransport: true}
	c.expect("MCS Connect Response", connectResponsePacket(want.encode()))
	c.send(c.frames[13])
	for request := 14; request <= 30; {
		c.send(c.frames[request])
		answer := request + 1
		if request == 14 {
			answer = 16
		}
		c.expect("join", c.frames[answer])
		request = answer + 1
	}
}

// logOn is everything up to the Client Info PDU.
func (c *mstsc) logOn() {
	c.Helper()
	c.joinChannels()
	c.send(c.frames[31])
}

// activate is the rest of the connection sequence.
func (c *mstsc) activate() {
	c.Helper()
	c.expect("licence", c.frames[32])
	c.expect("demand active", demandActivePacket(serverCapabilities(1024, 768, 24)))
	c.send(c.frames[35], c.frames[36], c.frames[37], c.frames[38], c.frames[39])
	c.expect("synchronize", c.frames[41])
	c.expect("cooperate", c.frames[42])
	c.expect("granted", c.frames[43])
	c.expect("font map", c.frames[45])
}

// leave says goodbye and closes.
func (c *mstsc) leave() {
	c.Helper()
	c.send(disconnectPacket())
	c.Close()
}

// logOnMstsc connects a client up to the end of Handshake.
func logOnMstsc(t testing.TB, cfg Config) (*mstsc, *Conn) {
	t.Helper()
	cfg.TLS = testTLS(t)
	nc, result := handshake(t, t.Context(), cfg)
	client := connect(t, nc)
	client.logOn()
	r := <-result
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.conn.Close() })
	return client, r.conn
}

// activeMstsc connects a client up to the end of Activate.
func activeMstsc(t testing.TB, cfg Config) (*mstsc, *Conn) {
	t.Helper()
	client, conn := logOnMstsc(t, cfg)
	result := make(chan error, 1)
	go func() { result <- conn.Activate(t.Context()) }()
	client.activate()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	return client, conn
}
