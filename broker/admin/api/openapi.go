package api

import _ "embed"

// documentYAML describes the API; documentJSON is the same, made of it by the
// tests (go test ./broker/admin/api -update).
//
//go:embed openapi.yaml
var documentYAML []byte

//go:embed openapi.json
var documentJSON []byte
