package sshtest

import (
	"errors"
	"io"
	"os/exec"

	"golang.org/x/crypto/ssh"
)

// Exec is a function for Start that runs programs in place of the commands.
func Exec(program func(command string) *exec.Cmd) func(string, ssh.Channel) uint32 {
	return func(command string, ch ssh.Channel) uint32 {
		cmd := program(command)
		cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			io.WriteString(ch.Stderr(), err.Error())
			return 127
		}
		go func() { // ends with the channel, which Server closes when we return
			io.Copy(in, ch)
			in.Close()
		}()
		err = cmd.Wait()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			return uint32(exit.ExitCode())
		case err != nil:
			return 1
		}
		return 0
	}
}
