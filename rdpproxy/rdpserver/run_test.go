package rdpserver

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"reflect"
	"testing"
	"time"
)

// TestBrokenInput: nothing of a broken packet is passed on, and the connection ends.
func TestBrokenInput(t *testing.T) {
	for name, packet := range map[string][]byte{
		"one event of two":    {0x08, 4, 0, 0x26},
		"unknown event":       {0x04, 3, 0xe0},
		"encrypted":           {0x84, 4, 0, 0x26},
		"shorter than itself": {0x04, 1, 0, 0x26},
		"slow path":           clientPacket(shareData(dataInput, streamLow, 1009, []byte{2, 0, 0, 0})),
		"share length":        clientPacket([]byte{0xff, 0x7f, 0x17, 0, 0, 0}),
		"share length 0":      clientPacket([]byte{0, 0, 0x17, 0, 0, 0}),
		"MCS PDU of a server": dataIndication([]byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			client, conn := activeMstsc(t, Config{})
			done := make(chan error, 1)
			go func() { done <- conn.Run(t.Context(), func(e Event) { t.Errorf("%+v was passed on", e) }) }()
			client.send(packet)
			if err := <-done; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Run ended with %v", err)
			}
		})
	}
}

func TestRunEndsWhenTheClientLeaves(t *testing.T) {
	for name, leave := range map[string]func(*mstsc, net.Conn){
		"ultimatum":       func(c *mstsc, _ net.Conn) { c.send(disconnectPacket()) },
		"TLS closed":      func(c *mstsc, _ net.Conn) { c.Close() },
		"TCP closed":      func(_ *mstsc, raw net.Conn) { raw.Close() },
		"half a packet":   func(c *mstsc, raw net.Conn) { c.send([]byte{3, 0, 1}); raw.Close() },
		"during shutdown": func(c *mstsc, _ net.Conn) { c.send(shutdownRequest()); c.receive(); c.leave() },
	} {
		t.Run(name, func(t *testing.T) {
			client, conn := activeMstsc(t, Config{})
			done := make(chan error, 1)
			go func() { done <- conn.Run(t.Context(), func(Event) {}) }()
			leave(client, client.Conn.(*tls.Conn).NetConn())
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// clientPacket is data on the I/O channel, from the client.
func clientPacket(data []byte) []byte {
	packet := dataIndication(data)
	packet[headerLen] = byte(sendDataRequest) << 2
	return packet
}

func shutdownRequest() []byte {
	return clientPacket(shareData(dataShutdownRequest, streamLow, 1009, nil))
}

func TestShutdownRequestIsDenied(t *testing.T) {
	client, conn := activeMstsc(t, Config{})
	done := make(chan error, 1)
	go func() { done <- conn.Run(t.Context(), func(Event) {}) }()
	client.send(shutdownRequest())
	answer := client.receive()
	if kind := dataType(answer[len(answer)-4]); kind != dataShutdownDenied {
		t.Errorf("answer %x", answer)
	}
	client.leave()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestInputReachesTheCaller(t *testing.T) {
	client, conn := activeMstsc(t, Config{})
	var got []Event
	done := make(chan error, 1)
	go func() { done <- conn.Run(t.Context(), func(e Event) { got = append(got, e) }) }()
	slow := binary.LittleEndian.AppendUint32(nil, 1) // one event, pad
	slow = append(slow, 0, 0, 0, 0, 4, 0 /* scancode */, 0x00, 0xc0 /* was down, release */, 0x26, 0, 0, 0)
	client.send(
		[]byte{0x04, 4, 0, 0x26},       // fast path: L down
		[]byte{0x04, 0x80, 5, 1, 0x26}, // the same with a long length: L up
		clientPacket(shareData(dataInput, streamLow, 1009, slow)),
		[]byte{0x04, 9, 0x20, 0x00, 0x08, 0x10, 0, 0x20, 0}, // mouse to 16, 32
	)
	client.leave()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := []Event{
		Key{Scancode: 0x26, Down: true}, Key{Scancode: 0x26}, Key{Scancode: 0x26},
		Mouse{Flags: PointerMove, X: 16, Y: 32},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestContextEndsRun: afterwards the client can still be told why.
func TestContextEndsRun(t *testing.T) {
	client, conn := activeMstsc(t, Config{LeaveTimeout: patience})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- conn.Run(ctx, func(Event) {}) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := conn.ErrorInfo(ErrorShutdown); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- conn.Close() }()
	client.send(client.frames[36])
	client.expect("error info", errorInfoPacket(ErrorShutdown))
	client.expect("disconnect", disconnectPacket())
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait for the client: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	client.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestIdleTimeout(t *testing.T) {
	_, conn := activeMstsc(t, Config{IdleTimeout: 200 * time.Millisecond})
	if err := conn.Run(t.Context(), func(Event) {}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestPacketTimeout(t *testing.T) {
	client, conn := activeMstsc(t, Config{PacketTimeout: 200 * time.Millisecond})
	client.send([]byte{3, 0, 1}) // and no more
	if err := conn.Run(t.Context(), func(Event) {}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
