// Package config reads broker.yaml. It is the only room that knows YAML: what
// it hands out are plain values.
//
// Reading is strict. A key that is not known, a key given twice, a value of
// another type, out of range or in conflict with another: each is a problem
// with its line and column, and all of them are told at once. What is allowed
// but risky is a warning.
//
// # What must exist
//
// The lists that the file names (users_file, protect_list) are read with it and
// must exist: who is protected from a logoff must not depend on a file that
// happens to be away. Secrets, keys and certificates are read when they are
// used, so that the file can be checked on a machine that does not have them;
// when such a file is missing, or every local user can read it, there is a
// warning. Relative names are relative to the folder of broker.yaml.
package config
