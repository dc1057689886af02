package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/broker/config"
)

const docsDir = "../../../docs"

// guides are all documents in docs, by name.
func guides(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(docsDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		b, err := os.ReadFile(path)
		texts[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) < 10 {
		t.Fatalf("only %d documents", len(texts))
	}
	return texts
}

// Every configuration that a guide shows is one.
func TestConfigurationsInGuides(t *testing.T) {
	n := 0
	for name, text := range guides(t) {
		for _, block := range yamlBlock.FindAllStringSubmatch(text, -1) {
			n++
			file := filepath.Join(t.TempDir(), "broker.yaml")
			if err := os.WriteFile(file, []byte(block[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(file); err != nil {
				t.Errorf("%s: %v\n%s", name, err, block[1])
			}
		}
	}
	if n < 7 {
		t.Errorf("only %d configurations were found", n)
	}
}

var (
	commandLine = regexp.MustCompile("(?m)(?:^|`)rdpbroker ([a-z][^`\n]*)")
	markdownRef = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
)

// Every command line in a guide is one that the program takes: the command exists, and
// so does every option.
func TestCommandsInGuides(t *testing.T) {
	n := 0
	for name, text := range guides(t) {
		for _, m := range commandLine.FindAllStringSubmatch(text, -1) {
			n++
			words := strings.Fields(m[1])
			c, rest, err := rootCommand().Find(words)
			if err != nil || c.Parent() == nil {
				t.Errorf("%s: there is no `rdpbroker %s`", name, m[1])
				continue
			}
			c.InitDefaultHelpFlag()
			for _, w := range rest {
				if flag, ok := strings.CutPrefix(w, "--"); ok && !hasFlag(c, flag) {
					t.Errorf("%s: rdpbroker %s has no %s", name, c.Name(), w)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d command lines were found", n)
	}
}

func hasFlag(c *cobra.Command, name string) bool {
	name, _, _ = strings.Cut(name, "=")
	return c.Flags().Lookup(name) != nil || c.InheritedFlags().Lookup(name) != nil
}

// What a document links to within the project exists.
func TestLinksInDocuments(t *testing.T) {
	texts := guides(t)
	for _, name := range []string{"README.md", "ARCHITECTURE.md"} {
		path := filepath.Join("../../..", name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(b)
	}
	for name, text := range texts {
		for _, m := range markdownRef.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}
