package daemon

import "github.com/rdpbroker/rdpbroker/broker"

// Broker is what operators' orders go to.
func (d *Daemon) Broker() *broker.Broker { return d.broker }
