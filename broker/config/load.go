package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds broker.yaml and the lists that it names, in bytes.
const maxFile = 1 << 20

// Load reads the configuration file at path and everything that it names. The
// error is Problems.
func Load(path string) (*Config, error) {
	data, err := readLimited(path, maxFile)
	if err != nil {
		return nil, Problems{unreadable(path, err)}
	}
	return Parse(path, data)
}

// Parse reads a configuration from data. Name stands in the problems, and other
// files are looked for in its folder. The error is Problems.
func Parse(name string, data []byte) (*Config, error) {
	return parse(name, data, thisMachine(), nil)
}

func thisMachine() machine {
	return machine{
		goos: runtime.GOOS,
		read: func(name string) ([]byte, error) { return readLimited(name, maxFile) },
		stat: os.Stat,
		env:  os.LookupEnv,
	}
}

// machine is what a configuration needs to know of the machine that it is for.
type machine struct {
	goos string
	read func(name string) ([]byte, error)
	stat func(name string) (fs.FileInfo, error)
	env  func(name string) (string, bool)
}

// parse reads data, which edit, if there is one, may change before it is
// understood.
func parse(name string, data []byte, m machine, edit func(root *ast.MappingNode)) (*Config, error) {
	d := newDecoder(name)
	keys := presets(m.goos)
	root := d.document(data)
	if root == nil {
		return nil, d.problems.sorted(name)
	}
	if edit != nil {
		m := mapping(root)
		edit(m)
		root = m
	}
	d.value(root, "", reflect.ValueOf(&keys).Elem(), "")
	b := &builder{decoder: d, machine: m, keys: keys, folder: filepath.Dir(name)}
	cfg := b.config() // even after problems: it finds the others
	if len(d.problems) > 0 {
		return nil, d.problems.sorted(name)
	}
	cfg.Warnings = d.warnings.sorted(name)
	cfg.source = source{name, data}
	return cfg, nil
}

// document is the one mapping that data must hold, nil if it does not.
func (d *decoder) document(data []byte) ast.Node {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		d.bad("", "is not UTF-8 text", "save it as UTF-8")
		return nil
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.problems = append(d.problems, syntaxProblem(d.file, err))
		return nil
	}
	var docs []*ast.DocumentNode
	for _, doc := range file.Docs {
		if doc.Body != nil {
			docs = append(docs, doc)
		}
	}
	switch {
	case len(docs) == 0:
		d.bad("", "is empty", "it needs listen: and farms: at least")
		return nil
	case len(docs) > 1:
		d.at[""] = placeOf(first(docs[1].Body))
		d.bad("", "begins a second document", "write everything into one, without ---")
		return nil
	}
	body := docs[0].Body
	if _, ok := body.(ast.MapNode); !ok || unsupported(body) != "" {
		d.bad("", "is "+kindOf(body), "it needs a mapping of keys")
		return nil
	}
	return body
}

// syntaxProblem is the problem that the YAML parser found.
func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, What: "is not YAML: " + err.Error()}
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		p.What = "is not YAML: " + syntax.GetMessage()
		if tk := syntax.GetToken(); tk != nil && tk.Position != nil {
			p.Line, p.Column = tk.Position.Line, tk.Position.Column
		}
	}
	return p
}

// unreadable is the problem that a file cannot be read.
func unreadable(name string, err error) Problem {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return Problem{File: name, What: fmt.Sprintf("cannot be read: %s", strings.TrimSpace(err.Error()))}
}
