package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// scalar decodes the single value n into v: text, a number, a duration, true or
// false, or a type that reads itself from text. Nothing is converted silently.
func (d *decoder) scalar(n ast.Node, p path, v reflect.Value, tag reflect.StructTag) {
	what, allowed := setScalar(n, v, tag)
	if what != "" {
		d.bad(p, what, allowed)
	}
}

// setScalar sets v, or says what is wrong with n and what is allowed.
func setScalar(n ast.Node, v reflect.Value, tag reflect.StructTag) (what, allowed string) {
	if _, ok := n.(*ast.NullNode); ok {
		return "has no value", "give it one, or take the key out"
	}
	if !isScalar(n) {
		return "is " + kindOf(n), "it needs a single value"
	}
	switch target := v.Addr().Interface().(type) {
	case *time.Duration:
		return setDuration(n, target, tag)
	case *byteSize:
		return setSize(n, target, tag)
	case encoding.TextUnmarshaler:
		text, what, allowed := textOf(n)
		if what != "" {
			return what, allowed
		}
		if err := target.UnmarshalText([]byte(text)); err != nil {
			return explain(text, err)
		}
		return "", ""
	}
	switch v.Kind() {
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return quote(n.GetToken().Value) + " is not allowed", "one of true, false"
		}
		v.SetBool(b.Value)
	case reflect.Int:
		return setInt(n, v, tag)
	case reflect.String:
		text, what, allowed := textOf(n)
		if words := strings.Fields(tag.Get("oneof")); len(words) > 0 {
			return setWord(n.GetToken().Value, text, words, v)
		}
		if what != "" {
			return what, allowed
		}
		v.SetString(text)
	default:
		panic("config: no decoding for " + v.Type().String()) // a mistake in the schema, which every test runs through
	}
	return "", ""
}

// setWord sets v to text if that is one of words. Raw is for the message: true
// and 1 are no text, but what the user wrote.
func setWord(raw, text string, words []string, v reflect.Value) (what, allowed string) {
	for _, w := range words {
		if w == text {
			v.SetString(w)
			return "", ""
		}
	}
	return quote(raw) + " is not allowed", "one of " + strings.Join(words, ", ")
}

func setInt(n ast.Node, v reflect.Value, tag reflect.StructTag) (what, allowed string) {
	raw, lo, hi := n.GetToken().Value, tag.Get("min"), tag.Get("max")
	bounds := fmt.Sprintf("%s to %s", lo, hi)
	if _, ok := n.(*ast.IntegerNode); !ok {
		return quote(raw) + " is not a whole number", bounds
	}
	i, err := strconv.Atoi(raw)
	if err != nil || raw != strconv.Itoa(i) {
		return quote(raw) + " is not a plain decimal number", bounds
	}
	if i < atoi(lo) || i > atoi(hi) {
		return raw + " is out of range", bounds
	}
	v.SetInt(int64(i))
	return "", ""
}

func setDuration(n ast.Node, v *time.Duration, tag reflect.StructTag) (what, allowed string) {
	raw := n.GetToken().Value
	x, err := parseDuration(raw)
	if err != nil {
		return explain(raw, err)
	}
	if lo, hi := tag.Get("min"), tag.Get("max"); x < mustDuration(lo) || x > mustDuration(hi) {
		return raw + " is out of range", fmt.Sprintf("%s to %s", lo, hi)
	}
	*v = x
	return "", ""
}

// ParseDuration reads a duration as broker.yaml has it: 30s, 10m, 8h, 2d, 1h30m.
func ParseDuration(s string) (time.Duration, error) { return parseDuration(s) }

// parseDuration reads whole numbers with their units, largest first: 30s, 10m,
// 8h, 2d, 1h30m. Only 0 needs no unit. It is never negative.
func parseDuration(s string) (time.Duration, error) {
	units := []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
	const expected = "a duration such as 30s, 10m, 8h or 2d"
	if s == "0" {
		return 0, nil
	}
	var total time.Duration
	rest := s
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		name := rest[digits:]
		if end := strings.IndexAny(name, "0123456789"); end >= 0 {
			name = name[:end]
		}
		if digits > 0 && name == "" {
			return 0, &wordError{what: "has no unit", allowed: expected}
		}
		for len(units) > 0 && units[0].name != name {
			units = units[1:]
		}
		x, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil || len(units) == 0 {
			return 0, &wordError{what: "is not a duration", allowed: expected}
		}
		const most = 100 * 365 * 24 * time.Hour // well inside time.Duration
		if x > int64(most/units[0].unit) || total+time.Duration(x)*units[0].unit > most {
			return 0, &wordError{what: "is too long", allowed: "100 years at most"}
		}
		total += time.Duration(x) * units[0].unit
		rest, units = rest[digits+len(name):], units[1:]
	}
	if s == "" {
		return 0, &wordError{what: "is not a duration", allowed: expected}
	}
	return total, nil
}

// wordError says what is wrong with a text, and what is allowed.
type wordError struct{ what, allowed string }

func (e *wordError) Error() string {
	if e.allowed == "" {
		return e.what
	}
	return e.what + "; " + e.allowed
}

// explain makes a problem's words of the error that reading text gave.
func explain(text string, err error) (what, allowed string) {
	var w *wordError
	if errors.As(err, &w) {
		return quote(text) + " " + w.what, w.allowed
	}
	return quote(text) + " cannot be read: " + err.Error(), ""
}

// textOf is the text that n holds. Numbers and truth values are not text: 007
// and yes mean something else to the next reader of the file.
func textOf(n ast.Node) (text, what, allowed string) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, "", ""
	case *ast.LiteralNode:
		return n.Value.Value, "", ""
	}
	raw := n.GetToken().Value
	return "", raw + " is " + kindOf(n), "for text put it in quotes: '" + raw + "'"
}

// quote shows a user's text in a message, cut where it is long. A backslash is
// left as it is in DOMAIN\user, unless something needs one to be escaped.
func quote(s string) string {
	const longest = 64
	cut := ""
	if len(s) > longest {
		s, cut = strings.ToValidUTF8(s[:longest], ""), "…"
	}
	if strings.ContainsFunc(s, unprintable) || strings.Contains(s, `"`) {
		return strconv.Quote(s) + cut
	}
	return `"` + s + `"` + cut
}

// atoi and mustDuration read the bounds in tags; a bad one is a mistake in the
// schema, which every test runs through.
func atoi(s string) int {
	i, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return i
}

func mustDuration(s string) time.Duration {
	d, err := parseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}
