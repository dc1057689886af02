package daemon

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/statefile"
)

// learnedEvery is how often what was learned is written down, if it has changed. A
// broker that dies without a word has forgotten that much.
const learnedEvery = time.Minute

// learnedFile is where it is kept who came from where: beside the state file, since
// it is worth less and changes more often. "" for nowhere.
func (d *Daemon) learnedFile() string {
	path := d.started.StateFile
	if path == "" {
		return ""
	}
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + ".learned" + ext
}

// recall takes up what was learned before a restart. Without it the broker knows
// people less well for a while, which is no reason not to start.
func (d *Daemon) recall() {
	path := d.learnedFile()
	if path == "" {
		return
	}
	var all []identity.Remembered
	if err := statefile.Load(path, &all); err != nil {
		d.log.Warn("what was learned of client addresses is lost", zap.Error(err))
		return
	}
	d.resolver.Load().Recall(all, time.Now())
}

// keepLearned writes down what is learned, until ctx ends, and then once more.
func (d *Daemon) keepLearned(ctx context.Context) error {
	path := d.learnedFile()
	if path == "" {
		return nil
	}
	_, saved := d.resolver.Load().Remembered()
	tick := time.NewTicker(learnedEvery)
	defer tick.Stop()
	for end := false; !end; {
		select {
		case <-ctx.Done():
			end = true
		case <-tick.C:
		}
		all, changes := d.resolver.Load().Remembered()
		if changes == saved {
			continue
		}
		if err := statefile.Save(path, all); err != nil {
			d.log.Warn("what was learned of client addresses could not be kept", zap.Error(err))
			continue
		}
		saved = changes
	}
	return nil
}
