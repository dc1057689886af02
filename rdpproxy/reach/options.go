package reach

import "time"

// Options are how to check. The zero value is usable.
type Options struct {
	// Names are those under which users come to the host: the broker's names and
	// the host's own. The certificate should carry all of them.
	Names []string
	// Timeout bounds each connection, from the dial to its end. Zero: 5 s.
	Timeout time.Duration
	// Pause is the time between two connections. Some hosts have room for two
	// connections only that they have not accepted yet: xrdp's backlog is 2.
	// Zero: 250 ms; negative: none.
	Pause time.Duration
	// Now is when the certificate shall be valid. Zero: the time of the check.
	Now time.Time
}

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Pause == 0 {
		o.Pause = 250 * time.Millisecond
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	return o
}
