package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are what was measured: a round is a values of each contestant.
type results struct {
	names      []string
	of         map[string][]values
	effort     effort
	took       time.Duration
	loadBefore string
}

// round is where what name is measured at in a round is to be written.
func (r *results) round(name string, round int) values {
	for len(r.of[name]) <= round {
		r.of[name] = append(r.of[name], values{})
	}
	return r.of[name][round]
}

// median of a contestant's rounds.
func (r *results) median(name, key string) float64 {
	var xs []float64
	for _, v := range r.of[name] {
		if x, ok := v[key]; ok {
			xs = append(xs, x)
		}
	}
	return median(xs)
}

func median(xs []float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	slices.Sort(xs)
	n := len(xs)
	return (xs[(n-1)/2] + xs[n/2]) / 2
}

// rival is which HAProxy is the better one at m.
func (r *results) rival(m measure) string {
	a, b := r.median(plain, m.key), r.median(tuned, m.key)
	if m.more == (b > a) {
		return tuned
	}
	return plain
}

// quotients are the ratios of name to another one, of each round in which both were
// measured.
func (r *results) quotients(name, to string, m measure) (qs []float64) {
	theirs := r.of[to]
	for i, v := range r.of[name] {
		if i >= len(theirs) {
			break
		}
		x, one := v[m.key]
		y, two := theirs[i][m.key]
		if q := x / y; one && two && isNumber(q) {
			qs = append(qs, q)
		}
	}
	return qs
}

// ratio is the median of the ratios of ours to another one. What is compared was measured
// within seconds, so that it says more than the ratio of the medians.
func (r *results) ratio(to string, m measure) float64 { return median(r.quotients(ours, to, m)) }

// span is the least and the greatest ratio of a round.
func (r *results) span(to string, m measure) (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, q := range r.quotients(ours, to, m) {
		least, most = min(least, q), max(most, q)
	}
	return least, most
}

// ratios are ours by the names in bench.json: of several measures with one name
// their geometric mean.
func (r *results) ratios() map[string]float64 {
	// Memory that was given back while it was measured counts as next to none.
	const least = 0.001
	logs := map[string][]float64{}
	for _, m := range measures {
		if q := r.ratio(r.rival(m), m); m.ratio != "" && isNumber(q) {
			logs[m.ratio] = append(logs[m.ratio], math.Log(max(q, least)))
		}
	}
	out := map[string]float64{}
	for name, ls := range logs {
		sum := 0.0
		for _, l := range ls {
			sum += l
		}
		out[name] = math.Round(math.Exp(sum/float64(len(ls)))*1000) / 1000
	}
	return out
}

// measured reports whether m was.
func (r *results) measured(m measure) bool {
	return slices.ContainsFunc(r.names, func(name string) bool { return !math.IsNaN(r.median(name, m.key)) })
}

// compared reports whether there is something to compare.
func (r *results) compared() bool {
	return len(r.of[ours]) > 0 && len(r.of[plain]) > 0 && len(r.of[tuned]) > 0
}

func (r *results) write(o Options) error {
	table := r.table()
	fmt.Fprintf(o.Out, "\n%s\n", table)
	var errs []error
	if o.JSON != "" {
		errs = append(errs, r.writeJSON(o.JSON))
	}
	if o.Markdown != "" && r.compared() {
		errs = append(errs, replaceSection(o.Markdown, r.section(table)))
	}
	return errors.Join(errs...)
}

// finite is v without what is no number, of which JSON has none.
func (v values) finite() values {
	v = maps.Clone(v)
	maps.DeleteFunc(v, func(_ string, x float64) bool { return !isNumber(x) })
	return v
}

func isNumber(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func (r *results) writeJSON(file string) error {
	medians, rounds := map[string]values{}, map[string][]values{}
	for _, name := range r.names {
		all := values{}
		for _, m := range measures {
			all[m.key] = r.median(name, m.key)
		}
		medians[name] = all.finite()
		for _, v := range r.of[name] {
			rounds[name] = append(rounds[name], v.finite())
		}
	}
	all := map[string]any{"medians": medians, "rounds": rounds, "machine": machine()}
	if r.compared() {
		all["ratios_to_haproxy"] = r.ratios()
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// table is a table in Markdown: a row for each measure.
func (r *results) table() string {
	head := []string{"median of the rounds"}
	head = append(head, r.names...)
	if r.compared() {
		head = append(head, "ratio to the better HAProxy", "range")
	}
	if len(r.of[other]) > 0 {
		head = append(head, "ratio to "+other, "range")
	}
	rows := [][]string{head, nil}
	for _, m := range measures {
		if !r.measured(m) {
			continue
		}
		row := []string{m.title + ", " + m.unit}
		for _, name := range r.names {
			row = append(row, number(r.median(name, m.key)*m.scale))
		}
		if r.compared() {
			row = append(row, r.cells(r.rival(m), m)...)
		}
		if len(r.of[other]) > 0 {
			row = append(row, r.cells(other, m)...)
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	writeTable(&b, rows)
	return b.String()
}

// cells are the ratio to another one and its range.
func (r *results) cells(to string, m measure) []string {
	q := r.ratio(to, m)
	if !isNumber(q) { // of nothing
		return []string{"-", "-"}
	}
	least, most := r.span(to, m)
	return []string{fmt.Sprintf("%.2f", q), fmt.Sprintf("%.2f to %.2f", least, most)}
}

// writeTable writes rows, the second of which stands for the rule, in columns.
func writeTable(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		for i := range width {
			switch {
			case row == nil:
				fmt.Fprintf(w, "|%s", strings.Repeat("-", width[i]+2))
			default:
				fmt.Fprintf(w, "| %s%s ", row[i], strings.Repeat(" ", width[i]-len([]rune(row[i]))))
			}
		}
		fmt.Fprintln(w, "|")
	}
}

// number is x with three digits that count.
func number(x float64) string {
	switch a := math.Abs(x); {
	case !isNumber(x):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	case a >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

// The marks around what section writes.
const (
	sectionBegin = "<!-- make bench writes from here -->"
	sectionEnd   = "<!-- to here -->"
)

// section is the text for docs/benchmarks.md.
func (r *results) section(table string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. %s. %d rounds in %s, %d idle connections; load before %s, after %s.\n\n", time.Now().UTC().Format(time.DateOnly), machine(), r.effort.rounds, r.took.Round(time.Second), r.effort.idle, r.loadBefore, loadAverage())
	b.WriteString(table)
	b.WriteString("\n`ratios_to_haproxy` in `bin/bench.json` (of several rows with one name the geometric mean):\n\n")
	ratios := r.ratios()
	var seen []string
	for _, m := range measures {
		if m.ratio == "" || slices.Contains(seen, m.ratio) {
			continue
		}
		seen = append(seen, m.ratio)
		better := "lower is better"
		if m.more {
			better = "higher is better"
		}
		fmt.Fprintf(&b, "- `%s`: %.2f (%s)\n", m.ratio, ratios[m.ratio], better)
	}
	return b.String()
}

// replaceSection puts text between the marks in file.
func replaceSection(file, text string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), sectionBegin)
	_, after, ended := strings.Cut(rest, sectionEnd)
	if !ok || !ended {
		return fmt.Errorf("%s has no marks %q and %q", file, sectionBegin, sectionEnd)
	}
	return os.WriteFile(file, []byte(before+sectionBegin+"\n"+text+sectionEnd+after), 0o644)
}

// machine describes this one.
func machine() string {
	cpu := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, " \t:"))
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	haproxy := ""
	if out, err := exec.Command("haproxy", "-v").Output(); err == nil {
		line, _, _ := strings.Cut(string(out), "\n")
		haproxy = ", " + strings.Join(strings.Fields(line)[:min(3, len(strings.Fields(line)))], " ")
	}
	return fmt.Sprintf("%d × %s, %.0f GB of memory, Linux %s, %s%s", runtime.NumCPU(), cpu,
		float64(kilobytes("/proc/meminfo", "MemTotal:"))/(1<<30), strings.TrimSpace(string(kernel)), runtime.Version(), haproxy)
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(b))[:min(3, len(strings.Fields(string(b))))], " ")
}
