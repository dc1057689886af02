package bench

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Options are what Run is asked for.
type Options struct {
	// Program is the rdpbroker to run, Other one more to compare it with, "" for none:
	// so it is seen what a change to it has done.
	Program, Other string
	// Quick takes under three minutes, and its numbers say less.
	Quick bool
	// Rounds is how often each contestant is measured; 0: by Quick. (Memory, for which it
	// is started anew, is measured less often.)
	Rounds int
	// Idle is how many idle connections are held; 0: 10,000, or 3,000 if Quick. It is no
	// more than the system has descriptors for.
	Idle int
	// Only are the contestants to measure; none: all.
	Only []string
	// Parts are what is measured, of Parts(); none: everything.
	Parts []string
	// JSON and Markdown are files to write the results to; "" for none. In Markdown
	// the part between the marks is replaced.
	JSON, Markdown string
	// Out gets the table, and what happens meanwhile.
	Out io.Writer
}

// Run measures every contestant in turn, several times over, and writes the results.
func Run(o Options) error {
	connections, err := prepare()
	if err != nil {
		return err
	}
	e := full
	if o.Quick {
		e = quick
	}
	if o.Rounds > 0 {
		e.rounds, e.idleRounds = o.Rounds, min(o.Rounds, e.idleRounds)
	}
	if o.Idle > 0 {
		e.idle = o.Idle
	}
	e.connections = connections
	e.idle = min(e.idle, connections)
	names := slices.Clone(contestants)
	if o.Other != "" {
		names = append(names, other)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return len(o.Only) > 0 && !slices.Contains(o.Only, n) })
	if len(names) == 0 {
		return fmt.Errorf("nobody to measure: it is one of %q", contestants)
	}
	b := &bench{names: names, effort: e, out: o.Out, began: time.Now(), programs: map[string]string{ours: o.Program, other: o.Other}}
	for name, program := range b.programs { // each runs in a folder of its own
		if b.programs[name], err = filepath.Abs(program); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp("", "rdpbench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.farm, err = startFarm(); err != nil {
		return err
	}
	defer b.farm.stop()

	r := results{names: names, of: map[string][]values{}, effort: e, loadBefore: loadAverage()}
	alone, together := parts(o.Parts)
	if len(alone) > 0 {
		if err := b.alone(&r, alone); err != nil {
			return err
		}
	}
	if len(together) > 0 {
		if err := b.together(&r, together); err != nil {
			return err
		}
	}
	r.took = time.Since(b.began)
	return r.write(o)
}

// bench is a Run under way.
type bench struct {
	names    []string
	programs map[string]string // of the names that are rdpbrokers
	farm     *farm
	dir      string
	effort   effort
	out      io.Writer
	began    time.Time
}

// alone measures contestants of which no other one runs, and which are new each time:
// memory that one has once had it may keep.
func (b *bench) alone(r *results, parts []part) error {
	for round := range b.effort.idleRounds {
		for i := range b.names {
			name := b.turn(i, round)
			b.tell("round %d of %d of what is measured alone: %s", round+1, b.effort.idleRounds, name)
			m, err := b.start(name)
			if err != nil {
				return err
			}
			err = m.measure(parts, r.round(name, round))
			m.stop()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// together measures contestants that all run all the time, one directly after the other
// at the same thing: how fast a machine that is shared is changes with the minutes.
func (b *bench) together(r *results, parts []part) error {
	running := map[string]*measuring{}
	for _, name := range b.names {
		m, err := b.start(name)
		if err != nil {
			return err
		}
		defer m.stop()
		running[name] = m
	}
	for round := range b.effort.rounds {
		b.tell("round %d of %d", round+1, b.effort.rounds)
		for n := range parts {
			for i := range b.names {
				name := b.turn(i, round+n)
				if err := running[name].measure(parts[n:n+1], r.round(name, round)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// turn is who is the i-th in a round: nobody always comes first.
func (b *bench) turn(i, round int) string { return b.names[(i+round)%len(b.names)] }

func (b *bench) tell(format string, args ...any) {
	fmt.Fprintf(b.out, "%6s  %s\n", time.Since(b.began).Round(time.Second), fmt.Sprintf(format, args...))
}

// start runs a contestant and warms it up.
func (b *bench) start(name string) (*measuring, error) {
	c, err := start(name, b.farm, b.programs[name], b.dir, b.effort.connections)
	if err != nil {
		return nil, err
	}
	m := newMeasuring(c, b.effort)
	if err := m.warmUp(); err != nil {
		c.stop()
		return nil, err
	}
	return m, nil
}
