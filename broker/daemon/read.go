package daemon

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// ReadHost takes one reading of a configured host, with a driver of its own: the
// first that the driver publishes. It logs on at most once. ctx bounds it; log
// may be nil.
func ReadHost(ctx context.Context, h config.Host, log *zap.Logger) (r sessions.Report, err error) {
	if log == nil {
		log = zap.NewNop()
	}
	alone := &config.Config{Farms: []config.Farm{{Name: h.Farm, Hosts: []config.Host{h}}}}
	made, err := drivers(alone, nil, log)
	if err != nil {
		return sessions.Report{}, err
	}
	defer func() { err = errors.Join(err, closeAll(made, nil)) }()
	ctx, done := context.WithCancel(ctx)
	defer done()
	published := false
	err = made[h.Name].Watch(ctx, h.Host, func(first sessions.Report) {
		if !published {
			r, published = first, true
			done()
		}
	})
	switch {
	case published:
		return r, nil // whatever ended the watching came later
	case err == nil:
		return sessions.Report{}, fmt.Errorf("read %s: the driver ended without a reading", h.Name)
	}
	return sessions.Report{}, err
}
