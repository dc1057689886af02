package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// decoder copies the tree of a YAML document into structs, strictly, and goes on
// after a mistake so that all of them are told at once. What a document does not
// say keeps the value that the struct had before.
//
// Fields carry tags:
//
//	yaml:"name"           the key; yaml:"name,required" must be given, and not empty
//	yaml:",inline"        the keys of an embedded struct stand among the outer ones
//	oneof:"a b"           the words that are allowed
//	min:"1" max:"10"      the bounds of a number or a duration
//	refuse:"use X"        the key is known, but only to say what to use instead
type decoder struct {
	file     string
	at       map[path]place // where every key and list element that was given stands
	failed   map[path]bool  // where there is a problem already
	unread   map[path]bool  // where the tree is not what it must be, so that nothing below is known
	problems Problems
	warnings Problems
}

// place is a position in the file, counted from 1.
type place struct{ line, column int }

// presetter is a struct with defaults. The decoder applies them to elements of
// lists and maps, which did not exist before.
type presetter interface{ preset() }

// deferred is a value that keeps its part of the tree for later.
type deferred interface{ hold(n ast.Node, p path) }

// later is a block that can be decoded only when what lies under it is known:
// a farm's eviction keys over the global ones, a host's driver over defaults.
type later[T any] struct {
	node ast.Node
	path path
}

func (l *later[T]) hold(n ast.Node, p path) { l.node, l.path = n, p }

// given reports whether the block stands in the document, be it empty.
func (l *later[T]) given() bool { return l.node != nil }

// over is under with everything replaced that the block says.
func (l *later[T]) over(d *decoder, under T) T {
	if l.given() {
		d.value(l.node, l.path, reflect.ValueOf(&under).Elem(), "")
	}
	return under
}

func newDecoder(file string) *decoder {
	return &decoder{file: file, at: map[path]place{"": {line: 1, column: 1}}, failed: make(map[path]bool), unread: make(map[path]bool)}
}

// bad notes that the value at p is wrong. Only the first such note counts, and
// none below what could not be read: the others follow from it.
func (d *decoder) bad(p path, what, allowed string) {
	known := d.failed[p]
	for q := p; q != "" && !known; q = q.parent() {
		known = d.unread[q]
	}
	if !known {
		d.problems = append(d.problems, d.problem(p, what, allowed))
	}
	d.failed[p] = true
}

// wrongKind notes that the tree at p is not what it must be.
func (d *decoder) wrongKind(p path, what, allowed string) {
	d.bad(p, what, allowed)
	d.unread[p] = true
}

// given reports whether the document gives a value at p that is right so far.
func (d *decoder) given(p path) bool {
	_, ok := d.at[p]
	return ok && !d.failed[p]
}

// warn notes that the value at p is allowed but risky.
func (d *decoder) warn(p path, what string) {
	d.warnings = append(d.warnings, d.problem(p, what, ""))
}

// problem places itself at p, or at the nearest key above it that was given.
func (d *decoder) problem(p path, what, allowed string) Problem {
	at, ok := d.at[p]
	for q := p; !ok && q != ""; {
		q = q.parent()
		at, ok = d.at[q]
	}
	return Problem{File: d.file, Line: at.line, Column: at.column, Key: string(p), What: what, Allowed: allowed}
}

// value decodes n, which stands at p, into v.
func (d *decoder) value(n ast.Node, p path, v reflect.Value, tag reflect.StructTag) {
	if kind := unsupported(n); kind != "" {
		d.wrongKind(p, kind+" are not read in this file", "write the value out")
		return
	}
	switch target := v.Addr().Interface().(type) {
	case deferred:
		target.hold(n, p)
		return
	case encoding.TextUnmarshaler, *time.Duration:
		d.scalar(n, p, v, tag)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, p, v)
	case reflect.Map:
		d.mapping(n, p, v, tag)
	case reflect.Slice:
		d.list(n, p, v, tag)
	default:
		d.scalar(n, p, v, tag)
	}
}

// structure decodes the keys of n into the fields of v. Nothing after the colon
// is a mapping without keys: its keys may all be commented out.
func (d *decoder) structure(n ast.Node, p path, v reflect.Value) {
	fields := fieldsOf(v)
	seen := d.entries(n, p, func(key string, kp path, value ast.Node) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		switch {
		case i < 0:
			d.bad(kp, "is not a known key", instead(key, names(fields)))
		case fields[i].tag.Get("refuse") != "":
			d.bad(kp, "is not allowed", fields[i].tag.Get("refuse"))
		default:
			if isScalar(value) {
				d.at[kp] = placeOf(value)
			}
			d.value(value, kp, fields[i].value, fields[i].tag)
		}
	})
	for _, f := range fields {
		if _, ok := seen[f.name]; f.required && !ok {
			d.bad(p.key(f.name), "is missing", "")
		} else if k := f.value.Kind(); f.required && (k == reflect.Slice || k == reflect.Map) && f.value.Len() == 0 {
			d.bad(p.key(f.name), "is empty", "it needs one entry at least")
		}
	}
}

// mapping decodes n into the map v, from text to values of one type.
func (d *decoder) mapping(n ast.Node, p path, v reflect.Value, tag reflect.StructTag) {
	v.Set(reflect.MakeMap(v.Type()))
	d.entries(n, p, func(key string, kp path, value ast.Node) {
		e := fresh(v.Type().Elem())
		d.value(value, kp, e, tag)
		v.SetMapIndex(reflect.ValueOf(key), e)
	})
}

// list decodes n into the slice v, in place of what v held.
func (d *decoder) list(n ast.Node, p path, v reflect.Value, tag reflect.StructTag) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		if _, null := n.(*ast.NullNode); !null {
			d.wrongKind(p, "is "+kindOf(n), "it needs a list")
		}
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(seq.Values))
	for i, item := range seq.Values {
		e := fresh(v.Type().Elem())
		d.at[p.index(i)] = placeOf(first(item))
		d.value(item, p.index(i), e, tag)
		out = reflect.Append(out, e)
	}
	v.Set(out)
}

// entries calls each for every key of the mapping n, but the second time that a
// key comes, and returns where the keys stand.
func (d *decoder) entries(n ast.Node, p path, each func(key string, kp path, value ast.Node)) map[string]place {
	seen := make(map[string]place)
	m, ok := n.(ast.MapNode)
	if !ok {
		if _, null := n.(*ast.NullNode); !null {
			d.wrongKind(p, "is "+kindOf(n), "it needs a mapping of keys")
		}
		return seen
	}
	merged := false
	for it := m.MapRange(); it.Next(); {
		key := keyText(it.Key())
		kp, at := p.key(key), placeOf(it.Key())
		if kind := unsupported(it.Key()); kind != "" {
			d.at[kp] = at
			d.bad(kp, kind+" are not read in this file", "write the keys out")
			merged = true
			continue
		}
		if before, twice := seen[key]; twice {
			again := d.problem(kp, "is given twice", fmt.Sprintf("the first time on line %d", before.line))
			again.Line, again.Column = at.line, at.column
			d.problems = append(d.problems, again)
			continue
		}
		seen[key], d.at[kp] = at, at
		each(key, kp, it.Value())
	}
	if merged { // what is missing may have come from there
		d.unread[p] = true
	}
	return seen
}

// field is one key of a struct.
type field struct {
	name     string
	required bool
	tag      reflect.StructTag
	value    reflect.Value
}

// fieldsOf are the keys of the struct v, those of inlined structs among them.
func fieldsOf(v reflect.Value) []field {
	var fields []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if option == "inline" {
			fields = append(fields, fieldsOf(v.Field(i))...)
			continue
		}
		fields = append(fields, field{name: name, required: option == "required", tag: f.Tag, value: v.Field(i)})
	}
	return fields
}

// names are the keys that a user may write.
func names(fields []field) []string {
	var out []string
	for _, f := range fields {
		if f.tag.Get("refuse") == "" {
			out = append(out, f.name)
		}
	}
	return out
}

// fresh is a new value of type t with its defaults.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if s, ok := v.Interface().(presetter); ok {
		s.preset()
	}
	return v.Elem()
}
