package config

import (
	"fmt"
	"strconv"
	"strings"
)

// path is where a key stands, as problems print it: farms.office.hosts[0].name.
// The empty path is the document.
type path string

// key is the path of the key with this name under p. A name that is no plain
// word is quoted, as it would be in the file.
func (p path) key(name string) path {
	if !plainWord(name) {
		if strconv.CanBackquote(name) && !strings.Contains(name, "'") {
			name = "'" + name + "'"
		} else {
			name = strconv.Quote(name)
		}
	}
	if p == "" {
		return path(name)
	}
	return p + "." + path(name)
}

// index is the path of element i of the list p.
func (p path) index(i int) path { return path(fmt.Sprintf("%s[%d]", p, i)) }

// parent is the path that p was made from. Quoted names may hold dots; then it
// is a path that nothing stands at, and its parent, or that one's, is right again.
func (p path) parent() path {
	return p[:max(0, strings.LastIndexAny(string(p), ".["))]
}

func plainWord(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return s != ""
}
