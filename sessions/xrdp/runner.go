package xrdp

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Runner runs a command on the host.
type Runner interface {
	// Run runs argv with stdin as its standard input, and returns what it
	// printed: also beside an error, as far as it came. An error is returned
	// too if the command fails, or prints more than a reading can have. When ctx
	// ends Run returns; the command may then live on for a while.
	Run(ctx context.Context, stdin string, argv ...string) (stdout []byte, err error)
}

// maxOutput bounds what is read from a host: several thousand sessions.
const maxOutput = 4 << 20

var errTooMuch = errors.New("the host printed too much")

// bounded is a writer that refuses to take more than its limit. It is no
// bytes.Buffer, whose ReadFrom would take everything.
type bounded struct {
	limit int
	// full, if not nil, is called once when the limit is reached.
	full func()
	over bool
	b    []byte
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over {
		return 0, errTooMuch
	}
	if len(b.b)+len(p) > b.limit {
		b.over = true
		if b.full != nil {
			b.full()
		}
		return 0, errTooMuch
	}
	b.b = append(b.b, p...)
	return len(p), nil
}

// clipped is a writer that keeps the beginning and drops the rest.
type clipped struct {
	limit int
	b     []byte
}

func (c *clipped) Write(p []byte) (int, error) {
	c.b = append(c.b, p[:min(len(p), c.limit-len(c.b))]...)
	return len(p), nil
}

// maxComplaint is how much of a command's error output is kept, in bytes.
const maxComplaint = 160

// commandError is err with what the command complained about.
func commandError(err error, stderr *clipped) error {
	complaint := strings.TrimSpace(strings.ToValidUTF8(string(stderr.b), "?"))
	if complaint == "" {
		return err
	}
	return fmt.Errorf("%w: %q", err, complaint)
}
