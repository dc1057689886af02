package webhook

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Undelivered is a message that was given up, one JSON line in the file.
type Undelivered struct {
	// Time is when it was given up, after Tries, the last of which ended in Error.
	Time    time.Time `json:"time"`
	Tries   int       `json:"tries"`
	Error   string    `json:"error"`
	Message Message   `json:"message"`
}

// maxFile bounds the file of undelivered messages, in bytes: a receiver that is
// gone for good must not fill the disk.
const maxFile = 64 << 20

// keep appends u to the file at path. The file is opened each time, so that Resend
// may take it away.
func keep(path string, u Undelivered) error {
	line, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size()+int64(len(line)) > maxFile {
		return fmt.Errorf("%s is full: %d MB", path, maxFile>>20)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Close()
}

// Resent is what Resend has done.
type Resent struct {
	Delivered int `json:"delivered"`
	// Kept are still undelivered, and in the file again.
	Kept int `json:"kept"`
	// Spoilt lines are no messages, and in the file again too.
	Spoilt int `json:"spoilt,omitempty"`
	// Last is why the last one was not taken, "" if all were.
	Last string `json:"last_error,omitempty"`
}

// Resend sends the undelivered messages of c again, once each, the oldest first. After one
// that could not be delivered at all (the receiver did not answer) it leaves the
// rest. A broker may run at the same time. The error is that the file could not be
// read or written; no message is lost by it, but some may be sent again next time.
func Resend(ctx context.Context, c *Config) (Resent, error) {
	var done Resent
	sending := c.Undelivered + ".sending"
	// What an earlier Resend has left behind when it was ended comes first.
	for _, take := range []bool{false, true} {
		if take {
			if err := os.Rename(c.Undelivered, sending); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return done, err
			}
		}
		err := resendFile(ctx, c, sending, &done)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.Remove(sending)
		}
		if err != nil {
			return done, err
		}
		if done.Kept > 0 {
			break
		}
	}
	return done, nil
}

func resendFile(ctx context.Context, c *Config, path string, done *Resent) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	away := false
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		var u Undelivered
		if json.Unmarshal(line, &u) != nil || u.Message.ID == "" {
			done.Spoilt++
			if err := putBack(c.Undelivered, line); err != nil {
				return err
			}
			continue
		}
		var failed error
		if !away {
			u.Tries++
			failed = post(ctx, c, u.Message)
		}
		if failed == nil && !away {
			done.Delivered++
			continue
		}
		if failed != nil {
			u.Time, u.Error, done.Last = time.Now(), failed.Error(), failed.Error()
			var answer *answerError
			away = !errors.As(failed, &answer)
		}
		done.Kept++
		if err := keep(c.Undelivered, u); err != nil {
			return err
		}
	}
}

// putBack appends a line that could not be read to the file as it is.
func putBack(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Close())
}
