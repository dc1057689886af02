package broker_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/placement"
)

// The ceilings of the farm and of all farms count what was done, wherever.
func TestCeilingsOfFarmAndBroker(t *testing.T) {
	for name, set := range map[string]func(*placement.Eviction){
		"farm": func(e *placement.Eviction) { e.PerFarmPerHour = 2 },
		"all":  func(e *placement.Eviction) { e.PerHour = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				farm := evicting()
				farm.Wait = 2 * time.Hour
				set(&farm.Policy.Eviction)
				w := newWorld(t, farm, newHost("ts1", 2).with("o1", 9*time.Hour).with("o2", 8*time.Hour), newHost("ts2", 2).with("o3", 7*time.Hour).with("o4", 6*time.Hour))
				for i, user := range []string{"alice", "bob"} {
					w.connect(named(user)).expect("ts1")
					w.mustLogon(t, "ts1", user)
					w.read()
					time.Sleep(time.Duration(i) * 10 * time.Minute)
				}
				carol := w.connect(named("carol")).expect("waiting")
				if d := w.b.Explain(farmName, named("dave")); !strings.Contains(d.Reason, "2 evictions in") {
					t.Error(d.Reason)
				}
				time.Sleep(55 * time.Minute)
				carol.expect("ts2")
			})
		})
	}
}
