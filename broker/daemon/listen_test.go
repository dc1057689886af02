package daemon_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/rdpbroker/rdpbroker/broker/daemon"
)

// TestListenErrorsNameTheKey: an operator reads which line of the file to change.
func TestListenErrorsNameTheKey(t *testing.T) {
	taken := listen(t).Addr().String()
	for name, c := range map[string]struct {
		top  string
		want []string
	}{
		"a listener":            {fmt.Sprintf("listen: [{address: '127.0.0.1:0', farm: office}, {address: '%s', farm: office}]\n", taken), []string{"listen[1].address", taken, "in use"}},
		"a foreign address":     {"listen: [{address: '192.0.2.1:3389', farm: office}]\n", []string{"listen[0].address", "192.0.2.1"}},
		"the metrics":           {fmt.Sprintf("admin: {socket: '', metrics: '%s'}\n", taken), []string{"admin.metrics", taken, "in use"}},
		"a socket's folder":     {"admin: {socket: no/such/folder/admin.sock, metrics: ''}\n", []string{"admin.socket", "no/such/folder"}},
		"a socket that is none": {"admin: {socket: password, metrics: ''}\n", []string{"admin.socket", "no socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, unreachable(t, "ts1"))
			o.top = c.top
			d, err := daemon.New(o.parse(t), daemon.Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Listen()
			if err == nil {
				t.Fatal("it listens")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestListenGivesBackWhatItTook: after one bad key, nothing stays bound.
func TestListenGivesBackWhatItTook(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	o := newOffice(t, unreachable(t, "ts1"))
	o.top = fmt.Sprintf("listen: [{address: '%s', farm: office}]\nadmin: {socket: admin.sock, metrics: '%s'}\n", free.Addr(), listen(t).Addr())
	d, err := daemon.New(o.parse(t), daemon.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Listen(); err == nil {
		t.Fatal("it listens on an address in use")
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Errorf("the listener is still bound: %v", err)
	} else {
		again.Close()
	}
	if _, err := os.Lstat(o.path("admin.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestNewErrorsNameTheKey: what New reads or opens.
func TestNewErrorsNameTheKey(t *testing.T) {
	for name, c := range map[string]struct {
		top  string
		ca   string // content of the CA file, none without
		want string
	}{
		"the audit file":        {"audit: {file: no/such/folder/audit.jsonl}\n", "-", "audit.file"},
		"a folder for a file":   {"audit: {file: '.'}\n", "-", "audit.file"},
		"no CA file":            {"", "", "host ts1: winrm.ca_file"},
		"a CA file of nonsense": {"", "nonsense", "host ts1: winrm: the CA file holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, unreachable(t, "ts1"))
			o.top = c.top
			cfg := o.parse(t)
			switch c.ca {
			case "-":
			case "":
				os.Remove(o.path("ts1.pem"))
			default:
				o.write(t, "ts1.pem", c.ca)
			}
			if _, err := daemon.New(cfg, daemon.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: %v, which does not say %q", err, c.want)
			}
		})
	}
}
