package site

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificate is a TLS configuration with the certificate and key in these files.
// They are read anew when they have changed; if they cannot be used then, those of
// before stay.
func Certificate(certFile, keyFile string) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.read(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// lookEvery is how long a certificate is used without a look at its file.
const lookEvery = time.Minute

type certificate struct {
	certFile, keyFile string

	mu     sync.Mutex
	looked time.Time
	was    time.Time // the file's time of change
	cert   *tls.Certificate
}

func (c *certificate) read() error {
	info, err := os.Stat(c.certFile)
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.certFile, c.keyFile, err)
	}
	c.cert, c.was, c.looked = &cert, info.ModTime(), time.Now()
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= lookEvery {
		c.looked = time.Now()
		if info, err := os.Stat(c.certFile); err == nil && !info.ModTime().Equal(c.was) {
			_ = c.read() // half of a renewal, perhaps: the next look tells
		}
	}
	return c.cert, nil
}
