// Package statefile keeps in one small file what must outlive the broker's process,
// such as operators' orders. The file is replaced whole or not at all.
package statefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// version is that of the file's form; another one cannot be read.
	version = 1
	// maxFile bounds what is read, in bytes: tens of thousands of orders.
	maxFile = 16 << 20
)

// document is the file's form.
type document struct {
	Version int             `json:"version"`
	State   json.RawMessage `json:"state"`
}

// BrokenError says that the file could not be understood, and was put aside so
// that nothing writes over it.
type BrokenError struct {
	Path string
	// Aside is where it is now.
	Aside string
	Err   error
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s cannot be understood and was renamed to %s: %v", e.Path, e.Aside, e.Err)
}

func (e *BrokenError) Unwrap() error { return e.Err }

// Load reads the file at path into v, as Save wrote it. Where there is no such
// file v stays as it is. The error is *BrokenError if it made no sense; after any
// other the file is as it was.
func Load(path string, v any) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	_ = f.Close() // it was only read
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	if err := decode(data, v); err != nil {
		aside := path + ".broken"
		if moved := os.Rename(path, aside); moved != nil {
			return fmt.Errorf("%s cannot be understood (%w), nor be put aside: %w", path, err, moved)
		}
		return &BrokenError{Path: path, Aside: aside, Err: err}
	}
	return nil
}

func decode(data []byte, v any) error {
	if len(data) > maxFile {
		return fmt.Errorf("it has more than %d bytes", maxFile)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	if d.Version != version {
		return fmt.Errorf("its version is %d, and this broker knows %d", d.Version, version)
	}
	return json.Unmarshal(d.State, v)
}

// Save replaces the file at path with what v says, for its owner only to read. Its
// folder is made if only that is missing. When it returns nil, the file is on the
// disk; after an error the one before is still there. Saving from several
// goroutines at once is safe; the last one to finish stands.
func Save(path string, v any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the state: %w", err)
		}
	}()
	state, err := json.Marshal(v)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(document{Version: version, State: state}, "", "  ")
	if err != nil {
		return err
	}
	folder := filepath.Dir(path)
	if err := os.Mkdir(folder, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(folder, filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(folder)
}
