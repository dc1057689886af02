package testlab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSHD is a running OpenSSH server of an xrdp host, inside the host's namespaces.
type SSHD struct {
	// Addr is where it listens.
	Addr string
	// User is who may log on: root.
	User string
	// KeyFile is the user's private key, PasswordFile holds the user's password:
	// either will do.
	KeyFile, PasswordFile string
	// KnownHosts is a known_hosts file with the server's key.
	KnownHosts string
}

// StartSSHD starts an OpenSSH server on the host, on a port of its own, and waits
// until it listens. It ends with the host.
func (h *XRDPHost) StartSSHD(t testing.TB) *SSHD {
	t.Helper()
	Require(t, "sshd")
	s, err := h.startSSHD(t)
	if err != nil {
		t.Fatalf("sshd on %s: %v", h.Name, err)
	}
	return s
}

func (h *XRDPHost) startSSHD(t testing.TB) (*SSHD, error) {
	const port = 2222
	dir := t.TempDir()
	s := &SSHD{
		Addr: net.JoinHostPort(h.IP, strconv.Itoa(port)), User: "root",
		KeyFile: filepath.Join(dir, "id"), PasswordFile: filepath.Join(dir, "password"), KnownHosts: filepath.Join(dir, "known_hosts"),
	}
	hostKey, err := writeKey(filepath.Join(h.Etc, "testlab_host_key"))
	if err != nil {
		return nil, err
	}
	userKey, err := writeKey(s.KeyFile)
	if err != nil {
		return nil, err
	}
	const password = "pw-root-1"
	settings := fmt.Sprintf("ListenAddress %s\nPort %d\nHostKey /etc/testlab_host_key\n"+
		"AuthorizedKeysFile /etc/testlab_authorized_keys\nPermitRootLogin yes\nUsePAM no\nPidFile none\n", h.IP, port)
	for path, text := range map[string]string{
		filepath.Join(h.Etc, "testlab_sshd_config"):     settings,
		filepath.Join(h.Etc, "testlab_authorized_keys"): string(ssh.MarshalAuthorizedKey(userKey)),
		s.KnownHosts:   knownhosts.Line([]string{s.Addr}, hostKey) + "\n",
		s.PasswordFile: password + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if _, err := h.Exec("sh", "-c", "echo root:"+password+" | chpasswd"); err != nil {
		return nil, err
	}
	sshd, err := lookPath("sshd")
	if err != nil {
		return nil, err
	}
	p := startProcess(t, processOptions{}, append(h.Prefix(), sshd, "-D", "-e", "-f", "/etc/testlab_sshd_config")...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := reach(ctx, s.Addr); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(p.output()))
	}
	return s, nil
}

// writeKey makes an Ed25519 key, writes it to path and returns its public half.
func writeKey(path string) (ssh.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "testlab")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(public)
}
