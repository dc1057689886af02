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
	// Program is the rdpbroker to run.
	Program string
	// Quick takes under three minutes, and its numbers say less.
	Quick bool
	// Rounds is how often each contestant is measured; 0: by Quick.
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
		e.rounds = o.Rounds
	}
	if o.Idle > 0 {
		e.idle = o.Idle
	}
	e.connections = connections
	e.idle = min(e.idle, connections)
	names := slices.DeleteFunc(slices.Clone(contestants), func(n string) bool { return len(o.Only) > 0 && !slices.Contains(o.Only, n) })
	if len(names) == 0 {
		return fmt.Errorf("nobody to measure: it is one of %q", contestants)
	}
	program, err := filepath.Abs(o.Program) // it runs in a folder of its own
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rdpbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := startFarm()
	if err != nil {
		return err
	}
	defer f.stop()

	began := time.Now()
	r := results{names: names, of: map[string][]values{}}
	r.loadBefore = loadAverage()
	for round := range e.rounds {
		for i := range names {
			name := names[(i+round)%len(names)] // nobody always comes first
			fmt.Fprintf(o.Out, "%6s  round %d of %d: %s\n", time.Since(began).Round(time.Second), round+1, e.rounds, name)
			v, err := one(name, f, program, dir, e, o.Parts)
			if err != nil {
				return err
			}
			r.of[name] = append(r.of[name], v)
		}
	}
	r.took, r.effort = time.Since(began), e
	return r.write(o)
}

func one(name string, f *farm, program, dir string, e effort, parts []string) (values, error) {
	c, err := start(name, f, program, dir, e.connections)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	v, err := measureAll(c, e, parts)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, c.lastWords())
	}
	return v, err
}
