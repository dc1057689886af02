package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	file := func(text string) Secret {
		name := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Secret{File: name}
	}
	t.Setenv("CONFIG_TEST_SECRET", "from env ")
	t.Setenv("CONFIG_TEST_EMPTY", "")
	for name, c := range map[string]struct {
		secret Secret
		want   string
		fails  string
	}{
		"none":           {secret: Secret{}},
		"one line":       {secret: file("pa ss\n"), want: "pa ss"},
		"no line's end":  {secret: file("pass"), want: "pass"},
		"from Windows":   {secret: file("\ufeffpass\r\n"), want: "pass"},
		"spaces stay":    {secret: file(" pass \n"), want: " pass "},
		"empty":          {secret: file("\n"), fails: "is empty"},
		"too long":       {secret: file(strings.Repeat("x", 5000)), fails: "too long"},
		"no file":        {secret: Secret{File: "/nonexistent/secret"}, fails: "cannot read the password"},
		"environment":    {secret: Secret{Env: "CONFIG_TEST_SECRET"}, want: "from env "},
		"empty variable": {secret: Secret{Env: "CONFIG_TEST_EMPTY"}, fails: "CONFIG_TEST_EMPTY"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.secret.Read()
			if got != c.want || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("Read = %q, %v; want %q", got, err, c.want)
			}
			if c.want != "" && strings.Contains(c.secret.String(), c.want) {
				t.Errorf("String tells the password: %s", c.secret)
			}
		})
	}
}
