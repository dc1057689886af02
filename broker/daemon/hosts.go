package daemon

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/sessions/inventory"
	"github.com/rdpbroker/rdpbroker/sessions/tsts"
	"github.com/rdpbroker/rdpbroker/sessions/winrm"
)

// driver reads one host and logs sessions off it.
type driver interface {
	inventory.Watcher
	inventory.Refresher
	broker.Evictor
	Close() error
}

// driven is a host's driver with what it was made from.
type driven struct {
	driver
	from source
}

// source is everything that a driver is made from. Two equal ones need one
// driver, so that a reload leaves alone what did not change. Files count by what
// is in them: a renewed certificate is a change.
type source struct {
	WinRM *config.WinRM
	SSH   *config.WindowsSSH
	RPC   *config.RPC
	XRDP  *config.XRDP
	CA    string
}

// drivers makes what reads the configured hosts, and takes over what old has for
// the same source. Nothing is connected yet. If one fails, those made anew are closed.
func drivers(cfg *config.Config, old map[string]driven, log *zap.Logger) (_ map[string]driven, err error) {
	made := map[string]driven{}
	defer func() {
		if err != nil {
			closeAll(made, old)
		}
	}()
	for _, f := range cfg.Farms {
		for _, h := range f.Hosts {
			src := source{WinRM: h.WinRM, SSH: h.SSH, RPC: h.RPC, XRDP: h.XRDP}
			if h.WinRM != nil && h.WinRM.CAFile != "" {
				ca, err := os.ReadFile(h.WinRM.CAFile)
				if err != nil {
					return nil, fmt.Errorf("host %s: winrm.ca_file: %w", h.Name, err)
				}
				src.CA = string(ca)
			}
			if prev, ok := old[h.Name]; ok && reflect.DeepEqual(prev.from, src) {
				made[h.Name] = prev
				continue
			}
			d, err := newDriver(src, log.With(zap.String("host", h.Name)))
			if err != nil {
				return nil, fmt.Errorf("host %s: %w", h.Name, err)
			}
			made[h.Name] = driven{driver: d, from: src}
		}
	}
	return made, nil
}

// closeAll closes the drivers in ds that are not in keep as well.
func closeAll(ds, keep map[string]driven) error {
	var errs []error
	for name, d := range ds {
		if keep[name].driver != d.driver {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

func newDriver(src source, log *zap.Logger) (driver, error) {
	switch {
	case src.XRDP != nil:
		return newXRDP(src.XRDP, log)
	case src.SSH != nil:
		return newWinSSH(src.SSH, log)
	case src.RPC != nil:
		return newRPC(src.RPC, log)
	}
	return newWinRM(src.WinRM, src.CA, log)
}

func newWinRM(w *config.WinRM, ca string, log *zap.Logger) (driver, error) {
	c := winrm.Config{
		Endpoint:     w.URL,
		User:         w.User,
		Password:     w.Password.Read,
		ServerName:   w.ServerName,
		PlainHTTP:    strings.HasPrefix(w.URL, "http://"), // config lets it pass only where it was asked for
		Basic:        w.Auth == "basic",
		Poll:         w.Poll,
		Timeout:      w.Timeout,
		Processes:    everyOrNever(w.Processes),
		Mode:         winrm.Mode(w.Mode),
		TextEviction: w.TextEviction,
	}
	if ca != "" { // else the system's
		c.CA = []byte(ca)
	}
	return winrm.New(c, log)
}

// everyOrNever is a pause of broker.yaml, where 0 is never, as drivers take it,
// where 0 is their default.
func everyOrNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func newRPC(r *config.RPC, log *zap.Logger) (driver, error) {
	c := tsts.Config{
		Addr:           r.Address,
		User:           r.User,
		Auth:           tsts.Auth(r.Auth),
		KerberosConfig: r.Krb5Conf,
		Realm:          r.Realm,
		Keytab:         r.Keytab,
		Poll:           r.Poll,
		Timeout:        r.Timeout,
	}
	if !r.Password.IsZero() {
		c.Password = r.Password.Read
	}
	return tsts.New(c, log)
}

// entries are the hosts for the inventory.
func entries(cfg *config.Config, by map[string]driven) []inventory.Entry {
	var es []inventory.Entry
	for _, f := range cfg.Farms {
		for _, h := range f.Hosts {
			d := by[h.Name]
			es = append(es, inventory.Entry{Host: h.Host, Watcher: d.driver, FreshFor: freshFor(h), Same: d.from})
		}
	}
	return es
}

// freshFor is how old a reading may be for placements: three polls and the time
// that one reading may take, so that a single failure keeps nobody out; and not
// less than the default, since an agent with nothing to tell is heard only now
// and then.
func freshFor(h config.Host) time.Duration {
	var poll, timeout time.Duration
	switch {
	case h.XRDP != nil:
		poll, timeout = h.XRDP.Poll, h.XRDP.Timeout
	case h.RPC != nil:
		poll, timeout = h.RPC.Poll, h.RPC.Timeout
	case h.WinRM != nil:
		poll, timeout = h.WinRM.Poll, h.WinRM.Timeout
	}
	return max(3*poll+timeout, inventory.DefaultFreshFor)
}
