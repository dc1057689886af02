package winagent

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
)

//go:embed *.cs
var sources embed.FS

//go:embed bootstrap.ps1
var bootstrap string

// Command is the command line that starts the agent on a host. The class and the
// agent's first line come as two lines of standard input, or by the variables
// classVariable and startVariable where standard input is refused.
//
// -InputFormat None is essential: without it PowerShell itself reads standard
// input, as pipeline input of the command, and takes lines away from us.
func Command() string {
	return "powershell.exe -NoLogo -NoProfile -NonInteractive -InputFormat None -OutputFormat Text -ExecutionPolicy Bypass -EncodedCommand " +
		encode(bootstrap)
}

// Variables that bootstrap.ps1 looks into.
const (
	classVariable = "RDPBROKER_CLASS"
	startVariable = "RDPBROKER_START"
)

// encode is a script as -EncodedCommand takes it: base64 of UTF-16LE.
func encode(script string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(script)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// class is the agent's source: its files in one text, that with the using directives
// first.
func class() string {
	var b strings.Builder
	files, err := sources.ReadDir(".")
	for _, f := range files { // by name: agent.cs, agent_act.cs, …
		var text []byte
		if err == nil {
			text, err = sources.ReadFile(f.Name())
		}
		b.Write(text)
	}
	if err != nil { // it is compiled in
		panic(err)
	}
	return b.String()
}

// packed is the class as it is sent: base64 of gzip, a third of its size.
var packed = sync.OnceValue(func() string {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = z.Write([]byte(class()))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil { // a Buffer takes everything
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
})

// introduction is what the agent is sent first: itself, and its options.
func (c Config) introduction() []byte { return []byte(packed() + "\n" + c.start() + "\n") }

// start is the first line of an agent that takes commands.
func (c Config) start() string {
	return fmt.Sprintf("start beat=%s poll=%s silence=%s processes=%s",
		seconds(c.Beat), seconds(c.Poll), seconds(c.Silence), seconds(max(0, c.Processes)))
}

// lifeOfTheDeaf is how much longer than it is used an agent lives that cannot be
// told to end, should its shell not be ended.
const lifeOfTheDeaf = 15 * time.Minute

// deafStart is the first line of an agent that takes none.
func (c Config) deafStart() string {
	return fmt.Sprintf("%s life=%s", c.start(), seconds(c.Lifetime+lifeOfTheDeaf))
}

// variables give an agent itself and its first line.
func variables(start string) map[string]string {
	return map[string]string{classVariable: packed(), startVariable: start}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
