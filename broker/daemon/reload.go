package daemon

import (
	"fmt"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
)

// Reload takes a new configuration into use, or says loudly why not: loadErr is
// why the file could not be read, nil if it could. Either everything that can
// change without a restart does, or nothing. Sessions, reservations and the queue
// stay. What needs a restart is named in the log. The error is why nothing changed.
func (d *Daemon) Reload(next *config.Config, loadErr error) error {
	return d.reloadBy("", next, loadErr)
}

// reloadBy is Reload for the operator by, "" for a signal.
func (d *Daemon) reloadBy(by string, next *config.Config, loadErr error) error {
	err := loadErr
	if err == nil {
		err = d.reload(next)
	}
	d.metrics.Reloaded(err == nil, time.Now())
	r := audit.Record{Time: time.Now(), Event: audit.Reloaded, By: by}
	if err != nil {
		r.Error = err.Error()
	}
	d.record(r)
	if err != nil {
		d.log.Error("the configuration was NOT reloaded; the old one stays in use", zap.Error(err))
		return err
	}
	for _, w := range next.Warnings {
		d.log.Warn("configuration: " + w.String())
	}
	d.log.Info("the configuration was reloaded", zap.Int("hosts", len(d.Snapshot().Hosts)))
	return nil
}

func (d *Daemon) reload(next *config.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Everything that can fail comes first.
	people, err := Directory(next)
	if err != nil {
		return err
	}
	told, err := hook(next, d.opts.Version)
	if err != nil {
		return err
	}
	made, err := drivers(next, d.drivers, d.log)
	if err != nil {
		return err
	}
	if d.audit != nil {
		if err := d.audit.Reopen(); err != nil {
			return fmt.Errorf("audit.file: %w", closeOnFailure(err, made, d.drivers))
		}
	}
	for _, key := range d.needRestart(next) {
		d.log.Warn("a changed key needs a restart to take effect", zap.String("key", key))
	}
	if d.audit != nil {
		d.audit.SetRotation(audit.Rotation(next.Audit.Rotate))
	}
	d.webhook.SetConfig(told)

	old := d.drivers
	d.drivers = made
	d.evictors.Store(&made)
	d.resolver.Store(d.resolver.Load().WithDirectory(people))
	d.broker.SetConfig(farms(next))
	d.inventory.Apply(entries(next, made))
	d.retry()
	d.proxy.Reload(proxyConfig(next))
	d.prepareMetrics(next)
	d.cfg = next
	if err := closeAll(old, made); err != nil {
		d.log.Warn("closing what read the old hosts", zap.Error(err))
	}
	return nil
}

// retry asks anew after hosts that could not be read: what is wrong may have been
// mended where it does not show in the configuration, such as a refused password
// in its file. A driver that knows better than to ask says so at once.
func (d *Daemon) retry() {
	for _, h := range d.Snapshot().Hosts {
		if h.Problem != "" {
			d.inventory.Retry(h.Host.Name)
		}
	}
}

func closeOnFailure(err error, made, old map[string]driven) error {
	_ = closeAll(made, old) // err is the one to tell
	return err
}

// needRestart names the keys that are not as they were at the start, and that
// only a restart brings into effect.
func (d *Daemon) needRestart(next *config.Config) (keys []string) {
	// Whether a listener wants PROXY headers is fixed; from whom, is not.
	type listener struct {
		address, farm string
		proxied       bool
	}
	listeners := func(c *config.Config) (ls []listener) {
		for _, l := range c.Listeners {
			ls = append(ls, listener{l.Address, l.Farm, len(l.ProxyProtocol) > 0})
		}
		return ls
	}
	for _, k := range []struct {
		key      string
		was, now any
	}{
		{"listen", listeners(d.started), listeners(next)},
		{"admin", d.started.Admin, next.Admin},
		{"log", d.started.Log, next.Log},
		{"state_file", d.started.StateFile, next.StateFile},
		{"audit.file", d.started.Audit.File, next.Audit.File},
		{"identity.remember", []any{d.started.Identity.RememberEntries, d.started.Identity.RememberFor}, []any{next.Identity.RememberEntries, next.Identity.RememberFor}},
	} {
		if !reflect.DeepEqual(k.was, k.now) {
			keys = append(keys, k.key)
		}
	}
	return keys
}
