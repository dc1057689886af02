package sshlink

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostKeyError says in plain words what known_hosts said of a host's key.
func hostKeyError(knownHosts string, err error) error {
	var key *knownhosts.KeyError
	switch {
	case !errors.As(err, &key):
		return err
	case len(key.Want) == 0:
		return fmt.Errorf("%s has no key of the host: %w", knownHosts, err)
	default:
		return fmt.Errorf("the host has another key than in %s; somebody may be in between: %w", knownHosts, err)
	}
}

// hostKeyAlgorithms are the ones for the kinds of key that known_hosts has of the
// host; nil (the default) if it has none. Without this the host might show
// another of its keys, which would look like a wrong one.
func hostKeyAlgorithms(check ssh.HostKeyCallback, addr string) []string {
	var key *knownhosts.KeyError
	if err := check(addr, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); !errors.As(err, &key) {
		return nil
	}
	var algorithms []string
	for _, known := range key.Want {
		switch kind := known.Key.Type(); kind {
		case ssh.KeyAlgoRSA: // the key's kind; signed by SHA-2 only
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			algorithms = append(algorithms, kind)
		}
	}
	return algorithms
}

// noKey is a key that no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("not a key") }
