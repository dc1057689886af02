package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// maxPeopleFile bounds the file, in bytes.
const maxPeopleFile = 4 << 20

// lookEvery is how long what was read of the file is used without another look
// whether it has changed.
const lookEvery = time.Second

// File is a file of people, read anew whenever it has changed. A file with a
// mistake changes nothing: what was read before stays in use, and the log says so.
// Its methods may be called from anywhere.
type File struct {
	path string
	log  *zap.Logger

	mu     sync.Mutex
	people *People
	looked time.Time
	was    os.FileInfo
	told   string // the last error that was logged
}

// OpenFile reads the file at path. The error says what is wrong with it, by line.
func OpenFile(path string, log *zap.Logger) (*File, error) {
	if log == nil {
		log = zap.NewNop()
	}
	f := &File{path: path, log: log, looked: time.Now()}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// ReadPeople reads the file at path once.
func ReadPeople(path string) (*People, []byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxPeopleFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(text) > maxPeopleFile {
		return nil, nil, fmt.Errorf("%s: the file is too long", path)
	}
	p, err := ParsePeople(text)
	if err != nil {
		return nil, text, fmt.Errorf("%s: %w", path, err)
	}
	return p, text, nil
}

func (f *File) read() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	p, _, err := ReadPeople(f.path)
	if err != nil {
		return err
	}
	f.people, f.was = p, info
	return nil
}

// People are those of the file now.
func (f *File) People() *People {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.looked) < lookEvery {
		return f.people
	}
	f.looked = now
	info, err := os.Stat(f.path)
	if err == nil && f.was != nil && os.SameFile(info, f.was) && info.ModTime().Equal(f.was.ModTime()) && info.Size() == f.was.Size() {
		return f.people
	}
	if errors.Is(err, os.ErrNotExist) {
		// Taking the file away is a way to let nobody in any more.
		f.people, f.was = &People{}, nil
	}
	if err == nil {
		err = f.read()
	}
	switch {
	case err == nil:
		f.log.Info("the file of people was read anew", zap.String("file", f.path), zap.Int("people", len(f.people.entries)))
		f.told = ""
	case err.Error() != f.told:
		f.told = err.Error()
		f.log.Error("the file of people cannot be used; it counts as it was before", zap.Error(err))
	}
	return f.people
}
