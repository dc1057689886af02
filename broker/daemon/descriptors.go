package daemon

import (
	"go.uber.org/zap"
)

const (
	// perConnection is how many descriptors a relayed connection takes: two sockets,
	// and where the kernel moves the bytes, a pipe for each direction.
	perConnection = 6
	// besides is what everything else takes: listeners, files, the hosts' management.
	besides = 200
)

// checkDescriptors says so if the system gives fewer descriptors than the
// configured number of connections needs: beyond them nobody gets in, and no host
// can be reached.
func (d *Daemon) checkDescriptors() {
	needed := uint64(perConnection*d.config().Limits.Connections + besides)
	if limit, known := descriptorLimit(); known && limit < needed {
		d.log.Warn("the system allows fewer open files than limits.connections needs (ulimit -n, LimitNOFILE=)",
			zap.Uint64("allowed", limit), zap.Uint64("needed", needed), zap.Uint64("enough_for", (max(limit, besides)-besides)/perConnection))
	}
}
