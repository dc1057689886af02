package tsts

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// realm is a KDC of the test's own.
type realm struct {
	dir, conf string
	env       []string
	t         *testing.T
}

const kerberosUser = "broker@TEST.EXAMPLE"

func newRealm(t *testing.T) *realm {
	t.Helper()
	for _, tool := range []string{"krb5kdc", "kdb5_util", "kadmin.local"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("Kerberos is not tested: %v", err)
		}
	}
	dir := t.TempDir()
	r := &realm{dir: dir, conf: filepath.Join(dir, "krb5.conf"), t: t}
	port := freePort(t)
	r.write("krb5.conf", fmt.Sprintf("[libdefaults]\ndefault_realm = TEST.EXAMPLE\ndns_lookup_kdc = false\nudp_preference_limit = 1\n"+
		"[realms]\nTEST.EXAMPLE = {\nkdc = 127.0.0.1:%d\n}\n[domain_realm]\nlocalhost = TEST.EXAMPLE\n", port))
	modules := ""
	if kdc, err := exec.LookPath("krb5kdc"); err == nil { // a KDC that is not installed but lies in some folder
		if found, _ := filepath.Glob(filepath.Join(filepath.Dir(kdc), "../lib/*/krb5/plugins/kdb")); len(found) == 1 {
			modules = "[dbmodules]\ndb_module_dir = " + found[0] + "\n"
		}
	}
	r.write("kdc.conf", fmt.Sprintf("[kdcdefaults]\nkdc_listen = \"\"\nkdc_tcp_listen = 127.0.0.1:%d\n[realms]\nTEST.EXAMPLE = {\ndatabase_name = %s/principal\n"+
		"key_stash_file = %s/stash\nacl_file = %s/acl\n}\n[logging]\nkdc = FILE:%s/kdc.log\n%s", port, dir, dir, dir, dir, modules))
	r.env = append(os.Environ(), "KRB5_CONFIG="+r.conf, "KRB5_KDC_PROFILE="+filepath.Join(dir, "kdc.conf"))
	r.run("kdb5_util", "create", "-s", "-P", "master")
	r.run("kadmin.local", "-q", "addprinc -pw \""+password+"\" +requires_preauth "+kerberosUser)
	r.run("kadmin.local", "-q", "addprinc -randkey host/localhost")
	r.run("kadmin.local", "-q", "ktadd -k "+r.keytab()+" host/localhost")
	kdc := exec.Command("krb5kdc", "-n")
	kdc.Env = r.env
	if err := kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kdc.Process.Kill()
		kdc.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "kdc.log")); err == nil && t.Failed() {
			t.Logf("krb5kdc: %s", log)
		}
	})
	waitFor(t, func() bool { return listens(fmt.Sprintf("127.0.0.1:%d", port)) })
	return r
}

func (r *realm) keytab() string { return filepath.Join(r.dir, "host.keytab") }

func (r *realm) write(name, text string) {
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realm) run(name string, args ...string) {
	r.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func (r *realm) config(f *fakeHost) func(*Config) {
	return func(c *Config) {
		c.Addr, c.User, c.Auth, c.KerberosConfig = "tcp://localhost:"+f.addr[strings.LastIndexByte(f.addr, ':')+1:], kerberosUser, Kerberos, r.conf
	}
}

func TestKerberos(t *testing.T) {
	r := newRealm(t)
	f := newHost(t, func(f *fakeHost) { f.Keytab, f.Logf = r.keytab(), t.Logf })
	d := f.driver(t, r.config(f))
	w := watch(t, d)
	for range 3 {
		if rep := w.next(t); len(rep.Sessions) != 5 || rep.NoEvict != "" {
			t.Fatalf("got %+v", rep)
		}
	}
	if err := d.Evict(within(t), host, victim()); err != nil {
		t.Fatal(err)
	}
	w.until(t, func(rep sessions.Report) bool { return len(rep.Sessions) == 4 })
}

func TestKerberosKeytab(t *testing.T) {
	r := newRealm(t)
	keytab := filepath.Join(r.dir, "broker.keytab")
	r.run("kadmin.local", "-q", "ktadd -k "+keytab+" "+kerberosUser)
	f := newHost(t, func(f *fakeHost) { f.Keytab, f.Logf = r.keytab(), t.Logf })
	d := f.driver(t, r.config(f), func(c *Config) { c.Password, c.Keytab = nil, keytab })
	watch(t, d).next(t)
}

func TestKerberosWrongPassword(t *testing.T) {
	r := newRealm(t)
	f := newHost(t, func(f *fakeHost) { f.Keytab, f.Logf = r.keytab(), t.Logf })
	d := f.driver(t, r.config(f), func(c *Config) { c.Password = func() (string, error) { return "wrong", nil } })
	for range 2 {
		var auth *AuthError
		if err := watch(t, d).ended(t); !errors.As(err, &auth) || auth.RetryAfter() <= 0 {
			t.Errorf("got %v", err)
		}
	}
}

// Nor does a host that knows no Kerberos get the password by NTLM.
func TestKerberosIsNotDowngraded(t *testing.T) {
	r := newRealm(t)
	f := newHost(t)
	d := f.driver(t, r.config(f))
	if err := watch(t, d).ended(t); err == nil {
		t.Error("it got in")
	}
	if _, logons, refused := f.Counts(); logons+refused != 0 {
		t.Error("something was offered")
	}
}
