package config

import (
	"github.com/goccy/go-yaml/ast"
)

// kindOf names what n is, for messages.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return "a truth value"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	}
	return "text"
}

// isScalar reports whether n is a single value.
func isScalar(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return true
	}
	return false
}

// unsupported names the parts of YAML that the file does without: they let one
// part of it change another far away, and a small file grow beyond all bounds.
// Blocks under defaults: serve the same end.
func unsupported(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		return "anchors and aliases"
	case *ast.MergeKeyNode:
		return "merge keys"
	case *ast.TagNode:
		return "tags"
	case *ast.MappingKeyNode:
		return "complex keys"
	}
	return ""
}

// first is the node that n begins with: for a mapping its first key, as a
// mapping's own token is the first colon.
func first(n ast.Node) ast.Node {
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() {
			return it.Key()
		}
	}
	return n
}

// placeOf is where n begins, the zero place if its token does not tell.
func placeOf(n ast.Node) place {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return place{tk.Position.Line, tk.Position.Column}
	}
	return place{}
}

// keyText is a mapping's key as it is written.
func keyText(k ast.Node) string {
	if s, ok := k.(*ast.StringNode); ok {
		return s.Value
	}
	return k.GetToken().Value
}
