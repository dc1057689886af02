package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Secret says where a password is. It never holds the password: that is read
// each time it is used, so that it can change without a reload.
type Secret struct {
	// File is a file whose first line is the password; Env the name of an
	// environment variable. At most one is set; none: there is no password.
	File, Env string
}

// IsZero reports whether there is no password.
func (s Secret) IsZero() bool { return s == Secret{} }

// String says where the password is, and never what it is.
func (s Secret) String() string {
	switch {
	case s.File != "":
		return "file " + s.File
	case s.Env != "":
		return "environment variable " + s.Env
	}
	return "none"
}

// Read is the password now, without the line's end. That it is missing or empty
// is an error, which says where it was looked for. Where there is no password, it is "".
func (s Secret) Read() (string, error) {
	var text string
	switch {
	case s.File != "":
		var err error
		if text, err = FirstLine(s.File); err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
	case s.Env != "":
		text = os.Getenv(s.Env)
	default:
		return "", nil
	}
	if text == "" {
		return "", fmt.Errorf("the password is empty: %s", s)
	}
	return text, nil
}

// FirstLine is the first line of a short file that holds a secret, without its end.
func FirstLine(name string) (string, error) {
	b, err := readLimited(name, 4096)
	if err != nil {
		return "", err
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(string(b), "\ufeff"), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}

// readLimited reads a whole file that is no longer than limit bytes.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("the file is too long")}
	}
	return b, nil
}
