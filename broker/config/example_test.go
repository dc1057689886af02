package config

import (
	"bytes"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// example is the broker.yaml in the root of the project.
const example = "../../broker.yaml"

// TestExampleIsGood: the example passes as it is, on a machine that has none of
// its files.
func TestExampleIsGood(t *testing.T) {
	cfg, err := parseFile(t, example)
	if err != nil {
		t.Fatal("\n" + err.Error())
	}
	for _, w := range cfg.Warnings {
		if !strings.Contains(w.What, "cannot be read") {
			t.Errorf("the example is risky: %s", w)
		}
	}
}

// TestExampleHasEveryKey takes the "#" away from every setting in the example.
// The outcome must be good too, and hold each key that there is.
func TestExampleHasEveryKey(t *testing.T) {
	d, _ := decodeExample(t, uncomment(t))
	seen := make(map[reflect.Type]map[string]bool)
	collect(d, "", reflect.TypeFor[fileKeys](), seen)
	for typ, keys := range seen {
		for _, f := range fieldsOf(reflect.New(typ).Elem()) {
			if f.tag.Get("refuse") == "" && !keys[f.name] {
				t.Errorf("broker.yaml does not show %s of %s", f.name, typ.Name())
			}
		}
	}
	if len(seen) < 14 {
		t.Errorf("only %d blocks were found", len(seen))
	}

	m := madeUp
	m.read = func(string) ([]byte, error) { return nil, nil }
	m.stat = func(name string) (fs.FileInfo, error) { return info{name, 0o600}, nil }
	m.env = func(string) (string, bool) { return "x", true }
	if cfg, err := parse("broker.yaml", uncomment(t), m, nil); err != nil {
		t.Errorf("with all settings:\n%v", err)
	} else if len(cfg.Warnings) > 0 {
		t.Errorf("with all settings there are warnings:\n%v", cfg.Warnings)
	}
}

// TestExampleShowsDefaults: a setting that is commented out shows its default,
// if it has one.
func TestExampleShowsDefaults(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	plain, _ := decodeExample(t, data)
	full, keys := decodeExample(t, uncomment(t))
	defaults := presets("linux")
	compared := 0
	for p := range full.at {
		if _, ok := plain.at[p]; ok {
			continue
		}
		want, ok := lookup(reflect.ValueOf(defaults), string(p))
		if !ok || want.IsZero() || want.Kind() == reflect.Struct {
			continue
		}
		compared++
		if got, _ := lookup(reflect.ValueOf(keys), string(p)); !reflect.DeepEqual(got.Interface(), want.Interface()) {
			t.Errorf("broker.yaml shows %v for %s, the default is %v", got, p, want)
		}
	}
	if compared < 20 {
		t.Errorf("only %d defaults were compared", compared)
	}

	// The same for the elements of lists and maps, which have defaults of their own.
	var farm farmKeys
	var host hostKeys
	farm.preset()
	host.preset()
	office := keys.Farms["office"]
	diff(t, []time.Duration{farm.Wait, farm.Reservation}, []time.Duration{office.Wait, office.Reservation})
	ts1 := office.Hosts[0]
	diff(t, []any{host.CountDisconnected, host.Weight, host.Drain}, []any{ts1.CountDisconnected, ts1.Weight, ts1.Drain})
}

// uncomment is the example with every setting switched on: the "#" goes where a
// key, or a list element, follows it at once.
func uncomment(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	out := regexp.MustCompile(`(?m)^( *)#(- )?([a-z0-9_]+:)`).ReplaceAll(data, []byte("$1$2$3"))
	if bytes.Equal(out, data) {
		t.Fatal("the example has no setting that is commented out")
	}
	return out
}

func decodeExample(t *testing.T, data []byte) (*decoder, fileKeys) {
	t.Helper()
	d := newDecoder("broker.yaml")
	keys := presets("linux")
	root := d.document(data)
	if root == nil {
		t.Fatal(d.problems)
	}
	d.value(root, "", reflect.ValueOf(&keys).Elem(), "")
	for _, farm := range keys.Farms {
		farm.Eviction.over(d, keys.Eviction)
		for _, h := range farm.Hosts {
			h.WinRM.over(d, keys.Defaults.WinRM)
			h.SSH.over(d, keys.Defaults.SSH)
			h.RPC.over(d, keys.Defaults.RPC)
			h.XRDP.over(d, keys.Defaults.XRDP)
		}
	}
	if len(d.problems) > 0 {
		t.Fatal("\n" + d.problems.Error())
	}
	return d, keys
}

// collect notes, for every struct of the schema, which of its keys were given
// anywhere in the document.
func collect(d *decoder, p path, typ reflect.Type, seen map[reflect.Type]map[string]bool) {
	v := reflect.New(typ)
	switch v.Interface().(type) {
	case *later[evictionKeys]:
		typ = reflect.TypeFor[evictionKeys]()
	case *later[winrmKeys]:
		typ = reflect.TypeFor[winrmKeys]()
	case *later[winsshKeys]:
		typ = reflect.TypeFor[winsshKeys]()
	case *later[rpcKeys]:
		typ = reflect.TypeFor[rpcKeys]()
	case *later[xrdpKeys]:
		typ = reflect.TypeFor[xrdpKeys]()
	case deferred:
		panic("unknown block " + typ.String())
	}
	switch typ.Kind() {
	case reflect.Struct:
		if _, text := v.Interface().(interface{ UnmarshalText([]byte) error }); text {
			return
		}
		if seen[typ] == nil {
			seen[typ] = make(map[string]bool)
		}
		for _, f := range fieldsOf(reflect.New(typ).Elem()) {
			kp := p.key(f.name)
			if _, ok := d.at[kp]; ok {
				seen[typ][f.name] = true
			}
			collect(d, kp, f.value.Type(), seen)
		}
	case reflect.Map, reflect.Slice:
		for q := range d.at {
			if q != "" && q.parent() == p {
				collect(d, q, typ.Elem(), seen)
			}
		}
	}
}

// lookup is the value at a dotted path of struct keys; ok is false if the path
// leads through a list or a map.
func lookup(v reflect.Value, p string) (found reflect.Value, ok bool) {
	for _, key := range strings.Split(p, ".") {
		if v.Kind() != reflect.Struct {
			return v, false
		}
		ok = false
		for _, f := range fieldsOf(v) {
			if f.name == key {
				v, ok = f.value, true
			}
		}
		if !ok {
			return v, false
		}
	}
	return v, true
}
