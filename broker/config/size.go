package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// byteSize is a number of bytes, written 64MB.
type byteSize int64

// setSize sets v to what n says: 0, or a size within the bounds of tag.
func setSize(n ast.Node, v *byteSize, tag reflect.StructTag) (what, allowed string) {
	raw, lo, hi := n.GetToken().Value, tag.Get("min"), tag.Get("max")
	x, err := parseSize(raw)
	if err != nil {
		return explain(raw, err)
	}
	if x != 0 && (x < mustSize(lo) || x > mustSize(hi)) {
		return raw + " is out of range", fmt.Sprintf("0, or %s to %s", lo, hi)
	}
	*v = x
	return "", ""
}

// parseSize reads a whole number with its unit: KB, MB or GB, each 1,024 of the
// one before. Only 0 needs none.
func parseSize(s string) (byteSize, error) {
	const expected = "a size such as 64MB or 2GB"
	if s == "0" {
		return 0, nil
	}
	for i, unit := range []string{"KB", "MB", "GB"} {
		digits, ok := strings.CutSuffix(s, unit)
		if !ok {
			continue
		}
		const most = 1 << 20 // of any unit
		if x, err := strconv.ParseUint(digits, 10, 64); err == nil && x <= most {
			return byteSize(x) << (10 * (i + 1)), nil
		}
	}
	return 0, &wordError{what: "is not a size", allowed: expected}
}

func mustSize(s string) byteSize {
	x, err := parseSize(s)
	if err != nil {
		panic("config: " + s + " " + err.Error()) // a mistake in the schema
	}
	return x
}
