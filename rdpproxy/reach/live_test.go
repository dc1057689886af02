package reach_test

import (
	"strings"
	"testing"

	"github.com/rdpbroker/rdpbroker/deploy/testlab"
	"github.com/rdpbroker/rdpbroker/rdpproxy/reach"
)

// check runs Check with its real pace and prints what it found.
func check(t *testing.T, addr string) reach.Result {
	t.Helper()
	r, err := reach.Check(t.Context(), addr, reach.Options{Names: []string{"rdp.example"}})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := r.Summary(&out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if r.TLS == nil || r.TLS.Error != "" || len(r.TLS.Chain) == 0 || len(r.Names) != 1 || r.Names[0].Covered {
		t.Fatalf("TLS %+v, names %v", r.TLS, r.Names)
	}
	return r
}

func selected(r reach.Result) (all []string) {
	for _, a := range r.Answers {
		switch {
		case a.Failure != nil:
			all = append(all, a.Failure.Name)
		case a.Error != "":
			all = append(all, "error: "+a.Error)
		default:
			all = append(all, a.Selected)
		}
	}
	return all
}

func TestXRDP(t *testing.T) {
	h := testlab.StartXRDP(t, "checked", "", testlab.XRDPOptions{})
	r := check(t, h.Addr)
	if got := strings.Join(selected(r), " "); got != "SSL SSL SSL RDP" {
		t.Errorf("answers %s", got)
	}
	if r.Worst() != reach.LevelWarning {
		t.Errorf("worst %q", r.Worst())
	}
}

func TestShadow(t *testing.T) {
	h := testlab.StartShadow(t, "checked", testlab.ShadowOptions{})
	r := check(t, h.Addr)
	if got := strings.Join(selected(r)[:2], " "); got != "HYBRID HYBRID" {
		t.Errorf("answers %s", got)
	}
	for _, a := range r.Answers[2:] {
		if a.Failure == nil && a.Error == "" {
			t.Errorf("without NLA: %+v", a)
		}
	}
}
