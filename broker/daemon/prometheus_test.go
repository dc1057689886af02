package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	alertRules = "../../deploy/prometheus/alerts.yml"
	alertTests = "../../deploy/prometheus/alerts_test.yml"
	dashboard  = "../../deploy/grafana/rdpbroker.json"
	monitoring = "../../docs/monitoring.md"
)

// needPrometheus skips t where Prometheus is not installed.
func needPrometheus(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs prometheus; see deploy/install-test-peers.sh")
		}
	}
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// TestAlertRules: they are valid, and each one fires when it should and not on a
// day on which all is well.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	tool(t, "promtool", "check", "rules", alertRules)
	tool(t, "promtool", "test", "rules", alertTests)
	rules, tests, guide := read(t, alertRules), read(t, alertTests), read(t, monitoring)
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1) {
		if !strings.Contains(tests, "name: "+m[1]+"\n") || !strings.Contains(tests, "alertname: "+m[1]+",") {
			t.Errorf("%s is not tested", m[1])
		}
		if !strings.Contains(guide, m[1]) {
			t.Errorf("%s does not tell what to do after %s", monitoring, m[1])
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPrometheus: a real Prometheus scrapes a real broker, and has every metric that
// the rules and the dashboard name, with the labels that they use.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	notShort(t)
	o := newOffice(t, startWindows(t, "ts1", full(2), away("alice", time.Hour), working("bob")))
	o.top += "identity: {users: ['CONTOSO\\carol']}\n"
	s := o.open(t)
	s.call(t, "", "carol").connected()
	p := startPrometheus(t, o, s.MetricsAddr().String())

	for _, x := range append(p.rules(t), panels(t)...) {
		for _, sel := range selector.FindAllString(x.expr, -1) {
			p.until(t, x.where+" names "+sel, func() error {
				found, err := p.labels(sel)
				if err == nil && len(found) == 0 {
					err = errors.New("there is no such series")
				}
				return err
			})
		}
		if _, err := p.get("query", url.Values{"query": {x.expr}}); err != nil {
			t.Errorf("%s: %s: %v", x.where, x.expr, err)
		}
		have := map[string]bool{}
		for _, sel := range selector.FindAllString(x.expr, -1) {
			found, err := p.labels(sel)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range found {
				have[l] = true
			}
		}
		for _, l := range x.used() {
			if !have[l] {
				t.Errorf("%s uses the label %s, which nothing in it has: %s", x.where, l, x.expr)
			}
		}
	}
}

// selector finds metrics by name, with their matchers. (Of what is in the matchers
// nothing is taken for a name.)
var selector = regexp.MustCompile(`\b(rdpbroker[a-z0-9_:]+|process_[a-z_]+|up)\b(\{[^}]*\})?`)

// expression is something that Prometheus is asked.
type expression struct {
	where, expr string
	legend      string
}

var (
	grouping = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	inLegend = regexp.MustCompile(`\{\{ *(?:\$labels\.)?(\w+) *\}\}`)
)

// used are the labels that x groups by, or shows.
func (x expression) used() (labels []string) {
	for _, m := range grouping.FindAllStringSubmatch(x.expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			labels = append(labels, strings.TrimSpace(l))
		}
	}
	for _, m := range inLegend.FindAllStringSubmatch(x.legend, -1) {
		labels = append(labels, m[1])
	}
	return labels
}

// panels are the expressions of the dashboard, with its variables filled in.
func panels(t *testing.T) (all []expression) {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &board); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "1m", "$farm", ".*", "$host", ".*")
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			expr := fill.Replace(target.Expr)
			if strings.Contains(expr, "$") || !selector.MatchString(expr) {
				t.Errorf("the panel %q asks for %s", p.Title, target.Expr)
			}
			all = append(all, expression{"the panel " + p.Title, expr, target.LegendFormat})
		}
	}
	if len(all) < 20 {
		t.Errorf("the dashboard has only %d expressions", len(all))
	}
	values := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range board.Templating.List {
		if m := values.FindStringSubmatch(v.Definition); m != nil {
			all = append(all, expression{"the variable " + v.Name, fill.Replace(m[1]), "{{" + m[2] + "}}"})
		}
	}
	return all
}

// prometheus is one that runs.
type prometheus struct{ url string }

// startPrometheus starts one that scrapes the broker at addr, with our rules.
func startPrometheus(t *testing.T, o *office, addr string) prometheus {
	t.Helper()
	rules, err := filepath.Abs(alertRules)
	if err != nil {
		t.Fatal(err)
	}
	o.write(t, "prometheus.yml", fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ['%s']
scrape_configs: [{job_name: rdpbroker, static_configs: [{targets: ['%s']}]}]
`, rules, addr))
	tool(t, "promtool", "check", "config", o.path("prometheus.yml"))
	ln := listen(t)
	web := ln.Addr().String()
	ln.Close()
	var said strings.Builder
	cmd := exec.Command("prometheus", "--config.file="+o.path("prometheus.yml"), "--storage.tsdb.path="+o.path("tsdb"), "--web.listen-address="+web)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("prometheus said:\n%.4000s", said.String())
		}
	})
	p := prometheus{"http://" + web + "/api/v1/"}
	p.until(t, "Prometheus scrapes the broker", func() error {
		found, err := p.labels(`up{job="rdpbroker"} == 1`)
		if err == nil && len(found) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	return p
}

// until waits until ok returns nil.
func (p prometheus) until(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for late := time.Now().Add(2 * patience); time.Now().Before(late); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}

// get is what the API answers.
func (p prometheus) get(what string, q url.Values) (json.RawMessage, error) {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get(p.url + what + "?" + q.Encode())
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var a struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("%s answers %s: %.200s", what, res.Status, b)
	}
	if a.Status != "success" {
		return nil, errors.New(a.Error)
	}
	return a.Data, nil
}

// labels are the names of the labels of the series that expr gives now.
func (p prometheus) labels(expr string) ([]string, error) {
	data, err := p.get("query", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	var d struct {
		Result []struct{ Metric map[string]string }
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range d.Result {
		for l := range r.Metric {
			if !slices.Contains(names, l) {
				names = append(names, l)
			}
		}
	}
	return names, nil
}

// rules are the expressions of all rules, as Prometheus has understood them, with
// the labels that their texts show.
func (p prometheus) rules(t *testing.T) (all []expression) {
	t.Helper()
	var d struct {
		Groups []struct {
			Rules []struct {
				Name, Query, Health, LastError string
				Annotations                    map[string]string
			}
		}
	}
	p.until(t, "every rule was evaluated", func() error {
		data, err := p.get("rules", nil)
		if err != nil {
			return err
		}
		d.Groups = nil
		if err := json.Unmarshal(data, &d); err != nil {
			return err
		}
		for _, g := range d.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
				}
			}
		}
		return nil
	})
	for _, g := range d.Groups {
		for _, r := range g.Rules {
			x := expression{where: "the rule " + r.Name, expr: r.Query}
			for _, text := range r.Annotations {
				x.legend += strings.ReplaceAll(text, "{{ $value", "")
			}
			all = append(all, x)
		}
	}
	if want := strings.Count(read(t, alertRules), "expr:"); len(all) != want {
		t.Errorf("Prometheus has %d rules, the file %d", len(all), want)
	}
	return all
}
