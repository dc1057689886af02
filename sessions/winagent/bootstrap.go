package winagent

import (
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf16"
)

//go:embed agent.cs
var class string

//go:embed bootstrap.ps1
var bootstrap string

// Command is the command line that starts the agent on a host. Input that it
// expects: one line with the class, one with options, then commands.
//
// -InputFormat None is essential: without it PowerShell itself reads standard
// input, as pipeline input of the command, and takes lines away from us.
func Command() string {
	return "powershell.exe -NoLogo -NoProfile -NonInteractive -InputFormat None -OutputFormat Text -ExecutionPolicy Bypass -EncodedCommand " +
		encode(bootstrap)
}

// encode is a script as -EncodedCommand takes it: base64 of UTF-16LE.
func encode(script string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(script)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// introduction is what the agent is sent first: itself, and its options.
func (c Config) introduction() []byte {
	return fmt.Appendf(nil, "%s\nstart beat=%s poll=%s silence=%s processes=%s\n", base64.StdEncoding.EncodeToString([]byte(class)),
		seconds(c.Beat), seconds(c.Poll), seconds(c.Silence), seconds(c.Processes))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
