//go:build !linux

package main

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/handover"
)

func predecessor(_ *config.Config, takeOver bool, _ *zap.Logger) (*handover.Bundle, error) {
	if takeOver {
		return nil, errors.New("--take-over: connections can be taken over on Linux only")
	}
	return nil, nil
}

func successors(ctx context.Context, _ *daemon.Daemon, _ *config.Config, _ *zap.Logger) {
	<-ctx.Done()
}
