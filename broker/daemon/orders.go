package daemon

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker"
	"github.com/rdpbroker/rdpbroker/broker/statefile"
)

// remember keeps operators' orders over a restart.
func (d *Daemon) remember(o broker.Orders) error {
	if d.started.StateFile == "" {
		return nil
	}
	return statefile.Save(d.started.StateFile, o)
}

// restore takes up the orders that were remembered. A file that cannot be read is
// an error: a session that somebody wanted kept would be logged off.
func (d *Daemon) restore() error {
	if d.started.StateFile == "" {
		return nil
	}
	var o broker.Orders
	err := statefile.Load(d.started.StateFile, &o)
	var broken *statefile.BrokenError
	if errors.As(err, &broken) {
		d.log.Error("operators' orders are LOST: no session is kept, and no host drained, by any of them", zap.Error(err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("state_file: %w", err)
	}
	if len(o.Kept)+len(o.Draining) > 0 {
		d.log.Info("operators' orders were restored", zap.Int("kept", len(o.Kept)), zap.Any("draining", o.Draining))
	}
	d.broker.Restore(o)
	return nil
}
