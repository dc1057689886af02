package winagent

import (
	"context"
	"io"
)

// Transport starts programs on one host.
type Transport interface {
	// Start runs a command line of cmd.exe syntax without operators. ctx bounds
	// the start only: the process lives until its Close.
	Start(ctx context.Context, command string) (Process, error)
}

// VariableTransport is a Transport that can give a command environment variables.
// By it an agent runs where standard input is refused.
type VariableTransport interface {
	Transport
	// StartWith is Start with variables. Names and values are ASCII without
	// characters that XML treats specially, some 20 kB of them.
	StartWith(ctx context.Context, command string, variables map[string]string) (Process, error)
}

// Process is a running command. Stdout and Stderr are each read by one
// goroutine and must be read to their ends; Send is called by one at a time.
type Process interface {
	// Send writes all of data to the standard input.
	Send(ctx context.Context, data []byte) error
	// Stdout and Stderr end with io.EOF when the command has ended, with
	// another error when the connection to it is lost, and at Close.
	Stdout() io.Reader
	Stderr() io.Reader
	// ExitCode is valid after Stdout has ended with io.EOF.
	ExitCode() int
	// Close ends the command if it runs, frees what it holds on the host within
	// a few seconds, and makes all calls under way return. Calling it twice is
	// harmless.
	Close() error
}
