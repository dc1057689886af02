package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// errOff says that there is no receiver any more.
var errOff = errors.New("the webhook was taken out of the configuration")

// answerError is an answer that is no yes.
type answerError struct {
	status int
	after  time.Duration // what Retry-After asks for, 0: nothing
}

func (e *answerError) Error() string {
	return fmt.Sprintf("the receiver answers %d %s", e.status, http.StatusText(e.status))
}

// retryable reports whether another try may help after err, and how long the
// receiver wants to be left alone.
func retryable(err error) (after time.Duration, again bool) {
	var a *answerError
	if !errors.As(err, &a) {
		var bad *configError
		return 0, !errors.As(err, &bad)
	}
	switch {
	case a.status >= 500, a.status == http.StatusRequestTimeout, a.status == http.StatusTooManyRequests, a.status == http.StatusTooEarly:
		return a.after, true
	}
	return 0, false // it understood, and does not want it
}

// configError is a mistake in what the operator has given.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// post posts m once.
func post(ctx context.Context, c *Config, m Message) error {
	body, err := m.body()
	if err != nil {
		return &configError{fmt.Errorf("writing a webhook message: %w", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return &configError{fmt.Errorf("posting to the webhook: %w", err)}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.UserAgent)
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("webhook-id", m.ID)
	req.Header.Set("webhook-timestamp", at)
	if c.Secret != nil {
		key, err := readKey(c.Secret)
		if err != nil {
			return err // the file may be back at the next try
		}
		req.Header.Set("webhook-signature", sign(key, m.ID, at, body))
	}
	client := c.Client
	if client == nil {
		client = http.DefaultClient
	}
	once := *client
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := once.Do(req)
	if err != nil {
		return fmt.Errorf("posting to the webhook: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode/100 == 2 {
		return nil
	}
	a := &answerError{status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		a.after = min(longestPause, time.Duration(min(s, 3600))*time.Second)
	}
	return a
}

func readKey(secret func() (string, error)) ([]byte, error) {
	text, err := secret()
	if err != nil {
		return nil, fmt.Errorf("the webhook's secret: %w", err)
	}
	coded, ok := strings.CutPrefix(text, "whsec_")
	if !ok {
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(coded)
	if err != nil {
		return nil, fmt.Errorf("the webhook's secret begins with whsec_, and what follows is not base64")
	}
	return key, nil
}

func sign(key []byte, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, at)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// NewClient returns a client that trusts the certificates (PEM) in caFile, those
// of the system if that is "".
func NewClient(caFile string) (*http.Client, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConns:        1,
		ForceAttemptHTTP2:   true,
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("the webhook's certificates: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the webhook's certificates: there is none in %s", caFile)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t}, nil
}
