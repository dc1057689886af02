// Command rdpbench measures rdpbroker beside HAProxy and a direct connection, see
// make bench.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/rdpbroker/rdpbroker/broker/bench"
)

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) == 2 { // how it runs the hosts
		if ok, err := bench.PlayPart(os.Args[1], os.Stdout); ok {
			return code(err)
		}
	}
	o := bench.Options{Out: os.Stdout}
	flag.StringVar(&o.Program, "program", "bin/rdpbroker", "the rdpbroker to measure")
	flag.StringVar(&o.Other, "other", "", "one more rdpbroker, to see what a change has done")
	flag.BoolVar(&o.Quick, "quick", os.Getenv("BENCH_QUICK") == "1", "take under three minutes (BENCH_QUICK=1)")
	flag.IntVar(&o.Rounds, "rounds", 0, "how often each is measured (0: 15, or 4 if quick)")
	flag.IntVar(&o.Idle, "idle", 0, "how many idle connections are held (0: 10000, or 3000 if quick)")
	flag.StringVar(&o.JSON, "json", "", "a `file` for the results")
	flag.StringVar(&o.Markdown, "markdown", "", "a `file` in which to replace the part between the marks")
	only := flag.String("only", "", "whom to measure, with commas between: direct, HAProxy plain, HAProxy tuned, rdpbroker")
	parts := flag.String("parts", "", "what to measure, with commas between: "+strings.Join(bench.Parts(), ", "))
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		return 2
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	if *parts != "" {
		o.Parts = strings.Split(*parts, ",")
	}
	done, err := bench.Inside()
	if !done {
		err = bench.Run(o)
	}
	return code(err)
}

func code(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit): // else it has said why itself
		fmt.Fprintln(os.Stderr, "rdpbench:", err)
	}
	return 1
}
