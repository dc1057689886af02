package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/handover"
	"github.com/rdpbroker/rdpbroker/rdpproxy"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// handoverVersion is that of estate. A process that finds another one ends what it was
// given: the meaning of a field may have changed.
const handoverVersion = 1

// handoverWait is how long a handover waits for logons that are being watched: they
// are over in a second or two, unless somebody is made to wait for a logoff.
const handoverWait = 5 * time.Second

// estate is what one daemon leaves to the next, beside the open files.
type estate struct {
	Version     int                   `json:"version"`
	Listeners   []heldListener        `json:"listeners"`
	Logons      []broker.CarriedLogon `json:"logons"`
	Connections []heldConnection      `json:"connections"`
}

// heldListener is a listening socket, by what it is for and the address that the
// configuration has for it.
type heldListener struct {
	Inode uint64 `json:"inode"`
	Key   string `json:"key"`
}

// heldConnection is a rdpproxy.Carried with inodes for its sockets.
type heldConnection struct {
	Client        uint64         `json:"client"`
	Host          uint64         `json:"host"`
	ToHost        []byte         `json:"to_host,omitempty"`
	ToClient      []byte         `json:"to_client,omitempty"`
	Listener      string         `json:"listener"`
	ClientAddr    netip.AddrPort `json:"client_addr"`
	Said          string         `json:"said,omitempty"`
	HostName      string         `json:"host_name"`
	Why           string         `json:"why"`
	Resume        uint64         `json:"resume,omitempty"`
	Accepted      time.Time      `json:"accepted"`
	MovedToHost   int64          `json:"moved_to_host"`
	MovedToClient int64          `json:"moved_to_client"`
}

// inheritance is what a daemon has been left and has not taken into use yet.
type inheritance struct {
	estate
	files map[uint64]*os.File
}

// inherit reads what the process before has left. Whatever is wrong with it, this one
// starts: what cannot be read is told and ends.
func inherit(b *handover.Bundle, log *zap.Logger) *inheritance {
	in := &inheritance{files: map[uint64]*os.File{}}
	if b == nil {
		return in
	}
	files, err := b.ByInode()
	if err == nil {
		err = json.Unmarshal(b.State, &in.estate)
	}
	if err == nil && in.Version != handoverVersion {
		err = fmt.Errorf("it is of version %d, and this program knows %d", in.Version, handoverVersion)
	}
	if err != nil {
		log.Error("what the process before has left is of no use; its connections end", zap.Error(err))
		b.Close()
		return &inheritance{files: map[uint64]*os.File{}}
	}
	in.files = files
	return in
}

// listen is net.Listen on a TCP address, or the listener for key that was left.
func (d *Daemon) listen(key, address string) (net.Listener, error) {
	ln, err := d.inherited.listener(key)
	if err != nil {
		d.log.Warn("a listener that was handed over is of no use", zap.String("address", address), zap.Error(err))
	}
	if ln == nil {
		// Not for Multipath TCP, which no RDP client speaks: the sockets of such a listener
		// cannot be set up once for all connections.
		var c net.ListenConfig
		c.SetMultipathTCP(false)
		if ln, err = c.Listen(context.Background(), "tcp", address); err != nil {
			return nil, err
		}
	}
	if tcp, ok := ln.(*net.TCPListener); ok {
		if socket, err := handover.Keep(tcp); err == nil { // else the system has no such thing
			d.passing = append(d.passing, passed{key: key, socket: socket})
		}
	}
	return ln, nil
}

// listener is the one that was left for key, nil if there is none.
func (in *inheritance) listener(key string) (net.Listener, error) {
	for _, l := range in.Listeners {
		f := in.files[l.Inode]
		if l.Key != key || f == nil {
			continue
		}
		delete(in.files, l.Inode)
		defer f.Close() // net.FileListener duplicates it
		return net.FileListener(f)
	}
	return nil, nil
}

// passed is a listener's socket, kept to be passed on.
type passed struct {
	key    string
	socket *handover.Kept
}

// closePassing closes the listeners' second descriptors: as long as they are open the
// system accepts connections that nobody serves.
func (d *Daemon) closePassing() {
	for _, p := range d.passing {
		_ = p.socket.Close()
	}
	d.passing = nil
}

// takeOver goes on with the reservations and connections that were left. Run calls it
// before anybody else is admitted.
func (d *Daemon) takeOver() {
	in := d.inherited
	if err := d.broker.TakeOver(in.Logons); err != nil {
		d.log.Warn("not every reservation was taken over", zap.Error(err))
	}
	taken := 0
	for _, h := range in.Connections {
		c := rdpproxy.Carried{
			Client: in.files[h.Client], Host: in.files[h.Host], ToHost: h.ToHost, ToClient: h.ToClient,
			Listener: h.Listener, ClientAddr: h.ClientAddr, Said: h.Said, HostName: h.HostName, Why: h.Why, Resume: h.Resume,
			Accepted: h.Accepted, MovedToHost: h.MovedToHost, MovedToClient: h.MovedToClient,
		}
		if c.Client == nil || c.Host == nil {
			continue // counted below
		}
		delete(in.files, h.Client)
		delete(in.files, h.Host)
		host := sessions.Host{Name: h.HostName}
		if known := d.Snapshot().Host(h.HostName); known != nil {
			host = known.Host
		}
		a := d.broker.Resume(h.Resume, host)
		rt := router{d}.relayed(a)
		rt.Host, rt.Why = h.HostName, h.Why
		if err := d.proxy.Adopt(c, rt); err != nil {
			d.log.Warn("a connection that was handed over has ended", zap.String("host", h.HostName), zap.Error(err))
			a.Close(nil)
			c.Close()
			continue
		}
		taken++
	}
	for _, f := range in.files { // listeners that are not configured any more, and such
		_ = f.Close()
	}
	if n := len(in.Connections); n > 0 || len(in.Logons) > 0 {
		d.log.Info("taken over from the process before", zap.Int("connections", taken), zap.Int("lost", n-taken), zap.Int("reservations", len(in.Logons)))
	}
	d.inherited = &inheritance{}
}

// HandOver ends Run as its stop does, but nothing that is relayed ends with it:
// listeners, connections and reservations are passed to deliver, for the process that
// takes this one's place. deliver returns when that has them; the error ends Run. It
// may be called once, from any goroutine, while Run runs.
func (d *Daemon) HandOver(deliver func(handover.Bundle) error) {
	select {
	case d.successor <- deliver:
	default: // another one is under way
	}
}

// bequeath gives everything to deliver.
func (d *Daemon) bequeath(deliver func(handover.Bundle) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), handoverWait)
	defer cancel()
	carried, lost := d.proxy.HandOver(ctx)
	e := estate{Version: handoverVersion, Logons: d.broker.HandOver()}
	var b handover.Bundle
	defer b.Close()
	inode := func(f *os.File) uint64 {
		ino, err := handover.Inode(f)
		if err != nil {
			d.log.Warn("an open file cannot be handed over", zap.Error(err))
			return 0
		}
		b.Files = append(b.Files, f)
		return ino
	}
	for _, p := range d.passing {
		e.Listeners = append(e.Listeners, heldListener{Inode: inode(p.socket.File()), Key: p.key})
	}
	d.passing = nil
	for _, c := range carried {
		e.Connections = append(e.Connections, heldConnection{
			Client: inode(c.Client), Host: inode(c.Host), ToHost: c.ToHost, ToClient: c.ToClient,
			Listener: c.Listener, ClientAddr: c.ClientAddr, Said: c.Said, HostName: c.HostName, Why: c.Why, Resume: c.Resume,
			Accepted: c.Accepted, MovedToHost: c.MovedToHost, MovedToClient: c.MovedToClient,
		})
	}
	var err error
	if b.State, err = json.Marshal(e); err == nil {
		err = deliver(b)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("handing over %d connections, which end: %w", len(carried), err))
	}
	d.log.Info("handed over to the next process", zap.Int("connections", len(carried)), zap.Int("lost", lost), zap.Int("reservations", len(e.Logons)))
	return nil
}
