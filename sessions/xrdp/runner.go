package xrdp

import (
	"bytes"
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

// bounded is a buffer that refuses to grow over its limit.
type bounded struct {
	bytes.Buffer
	limit int
	// full, if not nil, is called once when the limit is reached.
	full func()
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over {
		return 0, errTooMuch
	}
	if b.Len()+len(p) > b.limit {
		b.over = true
		if b.full != nil {
			b.full()
		}
		return 0, errTooMuch
	}
	return b.Buffer.Write(p)
}

// clipped is a buffer that keeps the beginning and drops the rest.
type clipped struct {
	bytes.Buffer
	limit int
}

func (c *clipped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), max(0, c.limit-c.Len()))])
	return len(p), nil
}

// maxComplaint is how much of a command's error output is kept, in bytes.
const maxComplaint = 300

// commandError is err with what the command complained about.
func commandError(err error, stderr *clipped) error {
	complaint := strings.TrimSpace(strings.ToValidUTF8(stderr.String(), "?"))
	if complaint == "" {
		return err
	}
	return fmt.Errorf("%w: %q", err, complaint)
}
