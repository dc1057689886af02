package simhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/winagent/agenttest"
	driver "github.com/rdpbroker/rdpbroker/sessions/winrm"
)

// The real agent, compiled by Mono, behind the simulated WinRM endpoint: sealed
// by NTLM, its output cut anywhere, in the broker's own hands.
func TestTheRealAgentOverWinRM(t *testing.T) {
	const logon, disconnect = 134_000_000_000_000_001, 134_000_100_000_000_007
	stub := agenttest.New(t)
	stub.Set(func() {
		for id := 2; id < 40; id++ {
			stub.Sessions[id] = agenttest.Row(4, fmt.Sprintf("Jürgen %d", id), logon, disconnect, "")
		}
	})
	h := start(t, Config{Name: "worms", WinRM: WinRM{
		Managers: []Manager{broker}, RefusePlain: true, Split: rand.New(rand.NewPCG(3, 4)),
		PowerShell: func(ctx context.Context, _ string, variables map[string]string, stdin io.Reader, stdout, stderr io.Writer) int {
			cmd := stub.Command()
			for name, value := range variables {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return 1
			}
			stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
			defer stop()
			_ = cmd.Wait() // its code tells
			return cmd.ProcessState.ExitCode()
		},
	}})
	d, reports, ended := agentOf(t, h, driver.ModeAuto)
	r := await(t, reports, ended, func(sessions.Report) bool { return true })
	victim, ok := sessionOf(r, "jürgen 7")
	if !ok || len(r.Sessions) != 41 || r.Source != "agent" {
		t.Fatalf("report %+v", r)
	}
	began := time.Now()
	stub.Set(func() { stub.Sessions[8] = agenttest.Row(0, "Jürgen 8", logon, disconnect, "") })
	await(t, reports, ended, func(r sessions.Report) bool {
		s, _ := sessionOf(r, "jürgen 8")
		return s.State == sessions.StateActive
	})
	t.Logf("from a change to its report: %s", time.Since(began))

	used := int64(logon + 100)
	stub.Set(func() {
		stub.Sessions[9] = fmt.Sprintf("4||Jürgen 9|CONTOSO|%d|%d|%d|%d||||", logon, logon, disconnect, used)
	})
	began = time.Now()
	d.Refresh() // an input is no change, and is told to whom has asked
	await(t, reports, ended, func(r sessions.Report) bool {
		s, _ := sessionOf(r, "jürgen 9")
		return !r.ReadAt.Before(began) && fileTime(s.LastInputAt) == used
	})

	host := sessions.Host{Name: "worms"}
	changed, _ := sessionOf(r, "jürgen 8")
	var refused *sessions.RefusedError
	if err := d.Evict(t.Context(), host, changed); !errors.As(err, &refused) || refused.Why != "the user is connected again" {
		t.Errorf("%v", err)
	}
	go func() {
		for len(stub.Logoffs()) == 0 && t.Context().Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		stub.Set(func() { delete(stub.Sessions, victim.ID) })
	}()
	if err := d.Evict(t.Context(), host, victim); err != nil {
		t.Error(err)
	}
	if got, want := stub.Logoffs(), []string{fmt.Sprintf("%d 0", victim.ID)}; !slices.Equal(got, want) {
		t.Errorf("logged off %q, want %q", got, want)
	}
}
