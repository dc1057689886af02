package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// source is the file that a Config was read from.
type source struct {
	name string
	data []byte
}

const (
	// whatIf stands for a file's name in the problems of a change.
	whatIf = "what-if"
	// maxChanges and maxChange bound what may be tried at a time.
	maxChanges, maxChange = 32, 4096
)

// WhatIf is the configuration that c's file would give with changes to its policy,
// each KEY=VALUE with a dotted key and a value as they stand in the file:
// eviction.min_disconnected=5m, farms.office.balance=fill-first. A key of eviction:
// that farm says of its own is changed there too. The error is Problems, as of any
// file; those of a change have no line.
func (c *Config) WhatIf(farm string, changes []string) (*Config, error) {
	if len(changes) > maxChanges {
		return nil, Problems{{File: whatIf, What: "is more than can be tried at once", Allowed: fmt.Sprintf("%d changes at most", maxChanges)}}
	}
	var cs []change
	var problems Problems
	for _, text := range changes {
		ch, err := parseChange(text)
		if err != nil {
			what, allowed := explain(text, err)
			problems = append(problems, Problem{File: whatIf, What: what, Allowed: allowed})
			continue
		}
		cs = append(cs, ch)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	next, err := parse(c.source.name, c.source.data, thisMachine(), func(root *ast.MappingNode) {
		for _, ch := range cs {
			ch.apply(root, farm)
		}
	})
	if errors.As(err, &problems) {
		for i := range problems {
			for _, ch := range cs {
				if ch.touches(problems[i].Key, farm) {
					p := &problems[i]
					p.File, p.Line, p.Column = whatIf, 0, 0
				}
			}
		}
		return nil, problems
	}
	return next, err
}

// change is one key with another value.
type change struct {
	keys  []string
	value ast.Node
}

// parseChange reads KEY=VALUE.
func parseChange(text string) (change, error) {
	const example = "such as eviction.min_disconnected=5m"
	key, value, ok := strings.Cut(text, "=")
	switch {
	case !ok:
		return change{}, &wordError{what: "changes nothing", allowed: example}
	case len(text) > maxChange || !utf8.ValidString(text) || strings.ContainsFunc(text, unprintable):
		return change{}, &wordError{what: "is not a change", allowed: example}
	}
	c := change{keys: splitKey(strings.TrimSpace(key))}
	if slices.ContainsFunc(c.keys, func(k string) bool { return k == "" || strings.ContainsFunc(k, unprintable) }) {
		return change{}, &wordError{what: "is not a change", allowed: example}
	}
	if !c.ofPolicy() {
		return change{}, &wordError{what: "is not about policy", allowed: "keys of eviction: and of farms.NAME:, but for hosts"}
	}
	file, err := parser.ParseBytes([]byte("x: "+value+"\n"), 0)
	if err != nil || len(file.Docs) != 1 {
		return change{}, &wordError{what: "has no value that could stand in the file", allowed: example}
	}
	m := mapping(file.Docs[0].Body)
	if m == nil || len(m.Values) != 1 {
		return change{}, &wordError{what: "has no value that could stand in the file", allowed: example}
	}
	c.value = m.Values[0].Value
	return c, nil
}

// splitKey cuts a dotted key as path prints them: a part that is no plain word is
// quoted.
func splitKey(s string) []string {
	var keys []string
	for s != "" {
		if s[0] == '\'' {
			if end := strings.IndexByte(s[1:], '\''); end >= 0 {
				keys = append(keys, s[1:1+end])
				s = strings.TrimPrefix(s[end+2:], ".")
				continue
			}
		}
		if quoted, err := strconv.QuotedPrefix(s); err == nil && s[0] == '"' {
			if key, err := strconv.Unquote(quoted); err == nil {
				keys = append(keys, key)
				s = strings.TrimPrefix(s[len(quoted):], ".")
				continue
			}
		}
		key, rest, _ := strings.Cut(s, ".")
		keys, s = append(keys, key), rest
	}
	return keys
}

// ofPolicy reports whether c is about how decisions are made, and not about what
// there is.
func (c change) ofPolicy() bool {
	switch {
	case len(c.keys) >= 2 && c.keys[0] == "eviction":
		return true
	case len(c.keys) >= 3 && c.keys[0] == "farms":
		return c.keys[2] != "hosts"
	}
	return false
}

// ofFarm is where c stands among the keys of farm.
func (c change) ofFarm(farm string) []string {
	return append([]string{"farms", farm}, c.keys...)
}

func (c change) apply(root *ast.MappingNode, farm string) {
	put(root, c.keys, c.value)
	if own := c.ofFarm(farm); c.keys[0] == "eviction" && get(root, own) != nil {
		put(root, own, c.value)
	}
}

// touches reports whether a problem at key is one of c.
func (c change) touches(key, farm string) bool {
	for _, keys := range [][]string{c.keys, c.ofFarm(farm)} {
		var p path
		for _, k := range keys {
			p = p.key(k)
		}
		rest, under := strings.CutPrefix(key, string(p))
		if under && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// mapping is n as a list of keys and values, nil if it is something else.
func mapping(n ast.Node) *ast.MappingNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n
	case *ast.MappingValueNode: // one key alone
		return ast.Mapping(n.GetToken(), false, n)
	}
	return nil
}

// find is where key stands in m, nil if it does not.
func find(m *ast.MappingNode, key string) *ast.MappingValueNode {
	if m == nil {
		return nil
	}
	for _, v := range m.Values {
		if keyText(v.Key) == key {
			return v
		}
	}
	return nil
}

// get is what stands at keys below m, nil for nothing.
func get(m *ast.MappingNode, keys []string) ast.Node {
	v := find(m, keys[0])
	if v == nil || len(keys) == 1 {
		if v == nil {
			return nil
		}
		return v.Value
	}
	return get(mapping(v.Value), keys[1:])
}

// put sets what stands at keys below m.
func put(m *ast.MappingNode, keys []string, value ast.Node) {
	v := find(m, keys[0])
	if v == nil {
		v = pair(keys[0])
		m.Values = append(m.Values, v)
	}
	if len(keys) == 1 {
		v.Value = value
		return
	}
	below := mapping(v.Value)
	if below == nil {
		below = ast.Mapping(v.GetToken(), true)
	}
	v.Value = below
	put(below, keys[1:], value)
}

// pair is a key with no value yet.
func pair(key string) *ast.MappingValueNode {
	text := "'" + strings.ReplaceAll(key, "'", "''") + "': 0"
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil { // a quoted key is always YAML
		panic(err)
	}
	return mapping(file.Docs[0].Body).Values[0]
}
