package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is one file of an archive.
type file struct {
	name string // within it
	from string // on disk
	mode fs.FileMode
}

// archive packs files into out, in a folder of the archive's name: a .zip for
// Windows, a .tar.gz for everybody else.
func (r *release) archive(t target, program string, files []file) error {
	base := fmt.Sprintf("%s_%s_%s_%s", program, r.version, t.os, t.arch)
	if t.os == "windows" {
		return r.create(base+".zip", func(w io.Writer) error { return r.zip(w, base, files) })
	}
	return r.create(base+".tar.gz", func(w io.Writer) error { return r.tarGz(w, base, files) })
}

// create makes one file of the release.
func (r *release) create(name string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(filepath.Join(r.out, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r.made = append(r.made, name)
	if err := write(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (r *release) tarGz(w io.Writer, folder string, files []file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(z)
	for _, f := range files {
		b, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		h := &tar.Header{
			Name: folder + "/" + f.name, Mode: int64(f.mode), Size: int64(len(b)),
			ModTime: r.at, Uname: "root", Gname: "root", Format: tar.FormatPAX,
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(b); err != nil {
			return err
		}
	}
	return errors.Join(tw.Close(), z.Close())
}

func (r *release) zip(w io.Writer, folder string, files []file) error {
	zw := zip.NewWriter(w)
	for _, f := range files {
		b, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		if forNotepad(f.name) {
			b = []byte(strings.ReplaceAll(string(b), "\n", "\r\n"))
		}
		h := &zip.FileHeader{Name: folder + "/" + f.name, Method: zip.Deflate, Modified: r.at}
		h.SetMode(f.mode)
		to, err := zw.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := to.Write(b); err != nil {
			return err
		}
	}
	return zw.Close()
}

// forNotepad reports whether people on Windows open the file in an editor. The
// script is not among them: its line ends are part of it.
func forNotepad(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".md":
		return true
	}
	return name == "LICENSE"
}

// checksums writes SHA256SUMS over everything that was made.
func (r *release) checksums() error {
	var sums strings.Builder
	for _, name := range r.made {
		b, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), name)
	}
	return r.create("SHA256SUMS", func(w io.Writer) error {
		_, err := io.WriteString(w, sums.String())
		return err
	})
}
