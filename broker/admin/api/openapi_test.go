package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/admin/api"
	"github.com/rdpbroker/rdpbroker/broker/admin/auth"
)

var update = flag.Bool("update", false, "make openapi.json anew from openapi.yaml")

// description is openapi.json as the tests need it.
type description struct {
	OpenAPI string
	Paths   map[string]map[string]json.RawMessage
	raw     any
}

type operation struct {
	Role      string `json:"x-role"`
	LocalOnly bool   `json:"x-local-only"`
	Body      *struct {
		Content map[string]json.RawMessage
	} `json:"requestBody"`
	Responses map[string]json.RawMessage
}

func describe(t *testing.T) description {
	t.Helper()
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.raw, err = jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheTwoFormsAreOne(t *testing.T) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	made, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, made, "", " "); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile("openapi.json")
	if err != nil || !bytes.Equal(have, out.Bytes()) {
		t.Errorf("openapi.json is not openapi.yaml (%v): go test ./broker/admin/api -update", err)
	}
}

// TestEveryRouteIsDescribedAndNoOther: the document and the handlers know the same
// operations, for the same roles.
func TestEveryRouteIsDescribedAndNoOther(t *testing.T) {
	d := describe(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("the document is OpenAPI %s", d.OpenAPI)
	}
	var described, served []string
	for path, methods := range d.Paths {
		for method, raw := range methods {
			if method == "parameters" {
				continue
			}
			var op operation
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			line := strings.ToUpper(method) + " " + path + " for " + op.Role
			if op.LocalOnly {
				line += ", local only"
			}
			described = append(described, line)
			for name := range strings.SplitSeq(path, "/") {
				if strings.HasPrefix(name, "{") && !bytes.Contains(methods["parameters"], []byte("parameters/"+strings.Trim(name, "{}"))) {
					t.Errorf("%s does not describe %s", path, name)
				}
			}
			if _, ok := op.Responses["default"]; !ok {
				t.Errorf("%s does not say what an error looks like", line)
			}
		}
	}
	for _, r := range api.Routes(api.Config{State: admintest.NewState()}) {
		line := r.Pattern + " for " + r.Role.String()
		if r.LocalOnly {
			line += ", local only"
		}
		served = append(served, line)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described\n  %s\nserved\n  %s", strings.Join(described, "\n  "), strings.Join(served, "\n  "))
	}
}

// checker holds answers against the document.
type checker struct {
	d        description
	compiler *jsonschema.Compiler
}

func newChecker(t *testing.T) *checker {
	t.Helper()
	c := &checker{d: describe(t), compiler: jsonschema.NewCompiler()}
	c.compiler.DefaultDraft(jsonschema.Draft2020) // that of OpenAPI 3.1
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("openapi.json", c.d.raw); err != nil {
		t.Fatal(err)
	}
	return c
}

// pointer is s as a part of a JSON pointer in a URL.
func pointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D", " ", "%20").Replace(s)
}

// check holds the body of an answer to pattern against the document.
func (c *checker) check(t *testing.T, pattern string, res *httptest.ResponseRecorder) {
	t.Helper()
	kind, _, _ := strings.Cut(res.Header().Get("Content-Type"), ";")
	at := "#/components/responses/Problem/content/" + pointer(kind) + "/schema"
	if res.Code == http.StatusOK {
		method, path, _ := strings.Cut(pattern, " ")
		at = "#/paths/" + pointer(path) + "/" + strings.ToLower(method) + "/responses/200/content/" + pointer(kind) + "/schema"
	}
	schema, err := c.compiler.Compile("openapi.json" + at)
	if err != nil {
		t.Errorf("%s: an answer %d of type %q is not described: %v", pattern, res.Code, kind, err)
		return
	}
	if !strings.HasSuffix(kind, "json") {
		return
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(res.Body.Bytes()))
	if err != nil {
		t.Errorf("%s: %v", pattern, err)
		return
	}
	if err := schema.Validate(body); err != nil {
		t.Errorf("%s: the answer is not as described: %v\n%s", pattern, err, res.Body)
	}
}

// TestTheCheckerFindsMistakes: a check that finds nothing would prove nothing.
func TestTheCheckerFindsMistakes(t *testing.T) {
	schema, err := newChecker(t).compiler.Compile("openapi.json#/components/schemas/Host")
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{`{}`, `{"name":"ts1","state":"broken"}`, `[]`} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(wrong))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(v) == nil {
			t.Errorf("%s passes for a host", wrong)
		}
	}
}

// handler serves the API to whoever asks, as an admin.
func handler(c api.Config) http.Handler {
	mux := http.NewServeMux()
	for _, r := range api.Routes(c) {
		mux.HandleFunc(r.Pattern, func(w http.ResponseWriter, q *http.Request) {
			r.Handler(w, q.WithContext(auth.WithPerson(q.Context(), auth.Person{Name: "anna", Role: auth.Admin, Via: "socket"})))
		})
	}
	return mux
}
