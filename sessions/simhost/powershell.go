package simhost

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
)

// powerShell is powershell.exe as far as a broker uses it: it knows the agent
// when it sees it, and plays it.
func (q program) powerShell(args string) uint32 {
	script, ok := encodedCommand(args)
	switch {
	case !ok:
		return q.fail("powershell.exe without -EncodedCommand is not simulated.\r\n")
	case q.host.cfg.PowerShell != nil:
		return q.realPowerShell(script)
	case !strings.Contains(script, "[RdpBrokerAgent]::Run("):
		return q.fail("This script is not simulated.\r\n")
	case !strings.Contains(strings.ToLower(args), "-inputformat none"):
		// PowerShell would read standard input itself, as input of the script.
		return q.fail("The agent waits for its class.\r\n")
	case q.host.cfg.ConstrainedLanguage:
		q.print(`{"t":"cannot","why":"mode","detail":"ConstrainedLanguage"}` + "\r\n")
		return 3
	}
	p := &agentPlayer{program: q}
	return p.play()
}

func (q program) realPowerShell(script string) uint32 {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-q.command.stop:
			cancel()
		case <-ended:
		}
	}()
	return uint32(q.host.cfg.PowerShell(ctx, script, q.variables, commandInput{q.command}, commandOutput{q, q.stdout}, commandOutput{q, q.stderr}))
}

// commandInput is the standard input of a command.
type commandInput struct{ *command }

func (c commandInput) Read(b []byte) (int, error) {
	for {
		c.mu.Lock()
		n, end := copy(b, c.stdin), c.stdinEnd
		c.stdin = c.stdin[n:]
		c.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case end:
			return 0, io.EOF
		}
		select {
		case <-c.typed:
		case <-c.stop:
			return 0, io.EOF
		}
	}
}

// commandOutput is one of a program's output streams.
type commandOutput struct {
	program
	stream string
}

func (o commandOutput) Write(b []byte) (int, error) {
	if o.stream != "" {
		o.command.write(o.stream, b)
	}
	return len(b), nil
}

// encodedCommand is the script in the arguments of powershell.exe: base64 of UTF-16LE.
func encodedCommand(args string) (script string, ok bool) {
	words := strings.Fields(args)
	for i, w := range words[:max(0, len(words)-1)] {
		if !strings.EqualFold(w, "-EncodedCommand") {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(words[i+1])
		if err != nil || len(b)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(b)/2)
		for j := range units {
			units[j] = binary.LittleEndian.Uint16(b[2*j:])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}
