package config

import (
	"encoding"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// file is the full name of the file that s names at p; "" stays "".
func (b *builder) file(p path, s string) string {
	if s == "" {
		return ""
	}
	if strings.ContainsFunc(s, unprintable) {
		b.bad(p, quote(s)+" is not a file name", "")
	}
	if filepath.IsAbs(s) {
		return s
	}
	return filepath.Join(b.folder, s)
}

// existing is the file named at p, with a warning if it is not there: it is
// read when it is used.
func (b *builder) existing(p path, s string) string {
	name := b.file(p, s)
	if name == "" {
		return ""
	}
	if _, err := b.machine.stat(name); err != nil {
		b.warn(p, unreadable(name, err).String())
	}
	return name
}

// private is existing, with a warning if every local user can read the file.
// Windows keeps permissions elsewhere than in mode bits, and is not asked.
func (b *builder) private(p path, s string) string {
	name := b.existing(p, s)
	if name == "" || b.machine.goos == "windows" {
		return name
	}
	if info, err := b.machine.stat(name); err == nil && info.Mode().Perm()&0o007 != 0 {
		b.warn(p, name+": every local user has access to this file (mode "+info.Mode().Perm().String()+"); chmod o= "+name)
	}
	return name
}

// secret is the password that the block at p names, or else the one at shared.
func (b *builder) secret(k secretKeys, p, shared path) Secret {
	// Where one of the two is the host's own, it overrules the other in defaults.
	if ownFile, ownEnv := b.given(p.key("password_file")), b.given(p.key("password_env")); ownFile && !ownEnv {
		k.PasswordEnv = ""
	} else if ownEnv && !ownFile {
		k.PasswordFile = ""
	}
	file, env := b.source("password_file", p, shared), b.source("password_env", p, shared)
	if k.PasswordFile != "" && k.PasswordEnv != "" {
		b.bad(env, "a password comes from one place", "take out password_file or password_env")
		return Secret{}
	}
	s := Secret{File: b.private(file, k.PasswordFile), Env: k.PasswordEnv}
	if s.Env == "" {
		return s
	}
	if strings.ContainsAny(s.Env, "=\x00") {
		b.bad(env, "is not the name of an environment variable", "such as RDPBROKER_PASSWORD")
	} else if value, ok := b.machine.env(s.Env); !ok || value == "" {
		b.warn(env, "the environment variable "+s.Env+" is not set here")
	}
	return s
}

// noPassword reports whether a password is wanting for a reason that was told
// already: it was written out, or in two places.
func (b *builder) noPassword(blocks ...path) bool {
	for _, p := range blocks {
		for _, key := range []string{"password", "password_file", "password_env"} {
			if b.failed[p.key(key)] {
				return true
			}
		}
	}
	return false
}

// patterns reads the list of patterns that s names at p.
func (b *builder) patterns(p path, s string) []pattern { return list[pattern](b, p, s) }

// accounts reads the list of accounts that s names at p.
func (b *builder) accounts(p path, s string) []account { return list[account](b, p, s) }

// list reads a file with one entry a line. Empty lines and lines that begin
// with # count for nothing.
func list[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](b *builder, p path, s string) []T {
	name := b.file(p, s)
	if name == "" || b.failed[p] {
		return nil
	}
	data, err := b.machine.read(name)
	if err != nil {
		b.bad(p, unreadable(name, err).String(), "it must exist: what it says matters")
		return nil
	}
	if !utf8.Valid(data) {
		b.bad(p, name+" is not UTF-8 text", "save it as UTF-8")
		return nil
	}
	var out []T
	text := strings.TrimPrefix(string(data), "\ufeff")
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var v T
		if err := P(&v).UnmarshalText([]byte(line)); err != nil {
			what, allowed := explain(line, err)
			b.problems = append(b.problems, Problem{File: name, Line: i + 1, What: what, Allowed: allowed})
			continue
		}
		out = append(out, v)
	}
	return out
}
