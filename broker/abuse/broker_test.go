//go:build linux

package abuse

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
)

// brokerVariable makes this test binary be a broker in place of testing: what is in
// it is the name of its broker.yaml.
const brokerVariable = "RDPBROKER_ABUSE_CONFIG"

func TestMain(m *testing.M) {
	if file := os.Getenv(brokerVariable); file != "" {
		if err := beBroker(file, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// started is the first line of what a broker prints.
type started struct{ Addr string }

// usage is the answer to each line that a broker reads.
type usage struct {
	// Heap is what is in use after a collection, Resident what the process has of the
	// machine's memory now and Peak what it had at most; bytes.
	Heap, Resident, Peak int64
	Goroutines           int
	// Waiting and Reserved are callers in the queue and reservations.
	Waiting, Reserved int
	// Evictions are those that the broker has begun.
	Evictions int
}

// beBroker runs the broker of file until in ends.
func beBroker(file string, in io.Reader, out io.Writer) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cfg, err := config.Parse(file, text)
	if err != nil {
		return err
	}
	var evictions atomic.Int64
	d, err := daemon.New(cfg, daemon.Options{Log: zap.NewNop(), OnRecord: func(r audit.Record) {
		if r.Event == audit.Evicting {
			evictions.Add(1)
		}
	}})
	if err != nil {
		return err
	}
	addrs, err := d.Listen()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, ctx) }()
	answers := json.NewEncoder(out)
	if err := answers.Encode(started{addrs[0].String()}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		st := d.Status()
		u := usage{
			Heap: int64(m.HeapAlloc), Resident: status("VmRSS"), Peak: status("VmHWM"), Goroutines: runtime.NumGoroutine(),
			Waiting: len(st.Waiting), Reserved: len(st.Reservations), Evictions: int(evictions.Load()),
		}
		if err := answers.Encode(u); err != nil {
			return err
		}
	}
	cancel()
	return <-ended
}

// status is a line of /proc/self/status that is told in kB, in bytes.
func status(name string) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "kB")), 10, 64)
	return n << 10
}

// brokerProcess is a broker in a process of its own, so that its memory is its own.
type brokerProcess struct {
	t     *testing.T
	addr  string
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startBroker(t *testing.T, yaml string) *brokerProcess {
	t.Helper()
	file := filepath.Join(t.TempDir(), "broker.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &brokerProcess{t: t}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerVariable+"="+file)
	cmd.Stderr = os.Stderr
	var err error
	if b.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the broker: %v", err)
		}
	})
	b.lines = bufio.NewScanner(out)
	var s started
	b.next(&s)
	b.addr = s.Addr
	return b
}

func (b *brokerProcess) next(answer any) {
	b.t.Helper()
	if !b.lines.Scan() {
		b.t.Fatalf("the broker says nothing more: %v", b.lines.Err())
	}
	if err := json.Unmarshal(b.lines.Bytes(), answer); err != nil {
		b.t.Fatal(err)
	}
}

// usage asks what the broker needs now.
func (b *brokerProcess) usage() (u usage) {
	b.t.Helper()
	fmt.Fprintln(b.in, "usage")
	b.next(&u)
	return u
}
