package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/daemon"
	"github.com/rdpbroker/rdpbroker/broker/identity"
	"github.com/rdpbroker/rdpbroker/broker/rdpfile"
	"github.com/rdpbroker/rdpbroker/broker/token"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// loadBalanceInfo is what stands before a token in an .rdp file.
const loadBalanceInfo = "loadbalanceinfo:s:"

func tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "token USER",
		Short: "Make a routing token, and an .rdp file, by which the broker knows a user exactly",
		Long: `Make a routing token: the broker knows exactly who comes with it, where a client
on its own says nine characters of the name, or none. It stands in an .rdp file or
in a thin client's field for a routing token. It is no password: the host still
asks for that.

Tokens are sealed with the first key of identity.tokens.keys; "rdpbroker token
keygen" makes one. They cannot be changed, only revoked: by ID, for an account, or
all of a key's (see broker.yaml). Whoever has a copy is taken for the user until the
host asks for the password, so treat .rdp files with tokens as personal.

With --rdp a complete .rdp file is written. With --sign and --key it is signed as
rdpsign.exe does it, so that users are not warned of an unknown publisher. (Nobody
has yet tried such a signature with Windows' own client.)`,
		Args: exactly(1, "one user"),
	}
	var m minting
	file := configFlag(c)
	c.Flags().StringVar(&m.farm, "farm", "", "the `farm` for which it counts, where there are several")
	c.Flags().StringVar(&m.host, "host", "", "ask for this `host`: one's own session or a free slot there")
	c.Flags().StringVar(&m.life, "for", "365d", "for how long it is good, a `duration` such as 8h or 365d")
	c.Flags().StringVar(&m.rdp, "rdp", "", "write an .rdp file to this `path`; it must not exist")
	c.Flags().StringVar(&m.address, "address", "", "the broker's `address` for the .rdp file, as users reach it")
	c.Flags().StringVar(&m.cert, "sign", "", "sign the .rdp file with the RSA certificate in this PEM `file`, where those between it and a root may follow")
	c.Flags().StringVar(&m.key, "key", "", "the certificate's key, a PEM `file`")
	asJSON := c.Flags().Bool("json", false, "print JSON for scripts")
	quiet := c.Flags().BoolP("quiet", "q", false, "print only the token")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := m.usage(); err != nil {
			return usageError{err}
		}
		cfg, err := load(*file, io.Discard) // its warnings are for those who run the broker
		if err != nil {
			return err
		}
		made, err := m.mint(cfg, args[0], time.Now())
		if err != nil {
			return err
		}
		switch out := c.OutOrStdout(); {
		case *asJSON:
			return client.WriteJSON(out, made)
		case *quiet:
			_, err = fmt.Fprintln(out, made.Text)
			return err
		default:
			return made.table(out)
		}
	}
	c.AddCommand(tokenKeygenCommand(), tokenInspectCommand())
	return c
}

// minting are the flags of token.
type minting struct{ farm, host, life, rdp, address, cert, key string }

// usage is what is wrong with the flags by themselves.
func (m *minting) usage() error {
	switch {
	case (m.rdp == "") != (m.address == ""):
		return errors.New("--rdp FILE goes with --address BROKER, the name or address that users connect to")
	case (m.cert == "") != (m.key == ""):
		return errors.New("--sign CERT.pem goes with --key KEY.pem")
	case m.cert != "" && m.rdp == "":
		return errors.New("--sign signs an .rdp file: it goes with --rdp")
	}
	return nil
}

// minted is a token for people and scripts.
type minted struct {
	ID        string           `json:"id"`
	Account   sessions.Account `json:"account"`
	Farm      string           `json:"farm"`
	Host      string           `json:"host,omitempty"`
	MadeAt    time.Time        `json:"made_at"`
	ExpiresAt time.Time        `json:"expires_at"`
	Key       string           `json:"key"`
	// Verdict is for tokens that are looked at.
	Verdict token.Verdict `json:"verdict,omitempty"`
	// Text is the routing token.
	Text string `json:"token"`
	// File is the .rdp file that was written.
	File   string `json:"file,omitempty"`
	Signed bool   `json:"signed,omitempty"`
}

// mint makes the token for user, and the .rdp file if one is wanted.
func (m *minting) mint(cfg *config.Config, user string, now time.Time) (minted, error) {
	life, err := config.ParseDuration(m.life)
	if err != nil || life <= 0 {
		return minted{}, usageError{fmt.Errorf("--for takes a duration such as 8h or 365d: %q", m.life)}
	}
	farm, err := m.farmOf(cfg)
	if err != nil {
		return minted{}, usageError{err}
	}
	people, err := daemon.Directory(cfg)
	if err != nil {
		return minted{}, err
	}
	if len(people.Tokens.IDs()) == 0 {
		return minted{}, errors.New(`there is no key to seal it with: make one with "rdpbroker token keygen FILE" and name it in identity.tokens.keys`)
	}
	account := people.Account(user)
	if account.IsZero() {
		return minted{}, usageError{fmt.Errorf("%q names nobody", user)}
	}
	now = now.Truncate(time.Second)
	t := token.Token{Account: account, Farm: farm, Host: m.host, MadeAt: now, ExpiresAt: now.Add(life)}
	var nonce [token.NonceSize]byte
	_, _ = rand.Read(nonce[:]) // crypto/rand never fails
	text, err := people.Tokens.Seal(t, nonce)
	if err != nil {
		return minted{}, err
	}
	made := describe(t, text)
	if m.rdp != "" {
		made.File, made.Signed = m.rdp, m.cert != ""
		return made, m.write(account, text, now)
	}
	return made, nil
}

func describe(t token.Token, text string) minted {
	id, key, _ := token.About([]byte(text))
	return minted{ID: id, Account: t.Account, Farm: t.Farm, Host: t.Host, MadeAt: t.MadeAt.UTC(), ExpiresAt: t.ExpiresAt.UTC(), Key: key, Text: text}
}

// farmOf is the farm that the token is for; the host must be one of its own.
func (m *minting) farmOf(cfg *config.Config) (string, error) {
	var names []string
	for _, f := range cfg.Farms {
		names = append(names, f.Name)
	}
	farm := cfg.Farm(m.farm)
	switch {
	case m.farm == "" && len(cfg.Farms) == 1:
		farm = &cfg.Farms[0]
	case m.farm == "":
		return "", fmt.Errorf("there are several farms, --farm takes one of %s", strings.Join(names, ", "))
	case farm == nil:
		return "", fmt.Errorf("there is no farm %q; there are %s", m.farm, strings.Join(names, ", "))
	}
	names = nil
	for _, h := range farm.Hosts {
		if names = append(names, h.Name); h.Name == m.host {
			return farm.Name, nil
		}
	}
	if m.host != "" {
		return "", fmt.Errorf("there is no host %q in farm %s; there are %s", m.host, farm.Name, strings.Join(names, ", "))
	}
	return farm.Name, nil
}

// write writes the .rdp file: to nobody else's eyes, and over no other file.
func (m *minting) write(account sessions.Account, text string, now time.Time) error {
	f, err := rdpfile.New(rdpfile.Options{Address: m.address, User: account.String(), LoadBalanceInfo: text})
	if err != nil {
		return usageError{err}
	}
	if m.cert != "" {
		chain, key, err := signingPair(m.cert, m.key)
		if err == nil {
			err = f.Sign(chain, key, now)
		}
		if err != nil {
			return fmt.Errorf("--sign: %w", err)
		}
	}
	return writeNew(m.rdp, f.Bytes())
}

// signingPair reads certificates and a key that is not encrypted.
func signingPair(certFile, keyFile string) (chain []*x509.Certificate, key any, err error) {
	rest, err := os.ReadFile(certFile)
	for err == nil {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			var c *x509.Certificate
			c, err = x509.ParseCertificate(block.Bytes)
			chain = append(chain, c)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", certFile, err)
	}
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, nil, err
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
			return chain, key, err
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
			return chain, key, err
		}
	}
	return nil, nil, fmt.Errorf("%s holds no private key in PEM form, or an encrypted one (openssl pkey -in IT -out PLAIN)", keyFile)
}

// writeNew writes a file that must not exist yet, for its owner alone.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (t minted) table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	host := t.Host
	if host == "" {
		host = "any"
	}
	for _, row := range [][2]string{
		{"token", t.ID}, {"verdict", string(t.Verdict)}, {"account", t.Account.String()}, {"farm", t.Farm}, {"host", host},
		{"made", t.MadeAt.Format(time.DateTime + " MST")}, {"good until", t.ExpiresAt.Format(time.DateTime + " MST")}, {"sealed by key", t.Key},
	} {
		if row[1] != "" {
			fmt.Fprintf(tw, "%s:\t%s\n", row[0], row[1])
		}
	}
	if t.Verdict != "" {
		return tw.Flush()
	}
	if t.Account.Domain == "" {
		fmt.Fprintf(tw, "beware:\t%s has no domain: should there be several, it may be any of them\n", t.Account)
	}
	if t.File != "" {
		signed := "not signed"
		if t.Signed {
			signed = "signed"
		}
		fmt.Fprintf(tw, "written:\t%s, %s\n", t.File, signed)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nLine of an .rdp file:\n%s%s\n\nField for a routing token, of thin clients (FreeRDP: /load-balance-info:):\n%s\n", loadBalanceInfo, t.Text, t.Text)
	return err
}

func tokenKeygenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key that seals tokens, in a file of its own",
		Long: `Make a key that seals routing tokens, in a new file that only its owner can read.
Whoever has the key can make tokens for anybody.

To change the key: make a new one, put it first in identity.tokens.keys before the
old one, reload, hand out new tokens, and take the old key out when nobody uses
its tokens any more.`,
		Args: exactly(1, "one file"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		var secret [token.KeySize]byte
		_, _ = rand.Read(secret[:]) // crypto/rand never fails
		id := token.NewKey(secret).ID()
		text := fmt.Sprintf("%s\n# rdpbroker: key %s for routing tokens, made on %s. Keep it secret.\n",
			token.FormatKey(secret), id, time.Now().UTC().Format(time.DateOnly))
		if err := writeNew(args[0], []byte(text)); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "key %s was written to %s; name the file in identity.tokens.keys, and let only the broker read it\n", id, args[0])
		return err
	}
	return c
}

func tokenInspectCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect TOKEN",
		Short: "Tell what a routing token says, and whether the broker would believe it",
		Long: `Tell what a routing token says, and whether a broker with this configuration
would believe it. TOKEN is a token as "rdpbroker token" prints it, with or without
loadbalanceinfo:s:, or an .rdp file that holds one.

Exit code 0: it is good. 1: it is not.`,
		Args: exactly(1, "one token or .rdp file"),
	}
	file := configFlag(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for scripts")
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := tokenIn(args[0])
		if err != nil {
			return err
		}
		cfg, err := load(*file, io.Discard)
		if err != nil {
			return err
		}
		people, err := daemon.Directory(cfg)
		if err != nil {
			return err
		}
		seen, why := inspect(people, text, time.Now())
		if why != "" {
			return errors.New(why)
		}
		if *asJSON {
			err = client.WriteJSON(c.OutOrStdout(), seen)
		} else {
			err = seen.table(c.OutOrStdout())
		}
		if err == nil && seen.Verdict != token.Valid {
			return quietFailure{}
		}
		return err
	}
	return c
}

// tokenIn is the token in s, or in the .rdp file that s names.
func tokenIn(s string) (string, error) {
	if !strings.HasSuffix(strings.ToLower(s), ".rdp") {
		return strings.TrimPrefix(strings.TrimSpace(s), loadBalanceInfo), nil
	}
	b, err := os.ReadFile(s)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(rdpfile.Text(b)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), loadBalanceInfo); ok {
			return text, nil
		}
	}
	return "", fmt.Errorf("%s holds no %s line", s, strings.TrimSuffix(loadBalanceInfo, ":s:"))
}

// inspect opens text; why says why it cannot be opened, "" if it can.
func inspect(people identity.Directory, text string, now time.Time) (seen minted, why string) {
	t, verdict := people.Tokens.Open([]byte(text))
	id, key, _ := token.About([]byte(text))
	switch verdict {
	case token.Foreign:
		return minted{}, "this is no token of rdpbroker's, or it is damaged"
	case token.UnknownKey:
		return minted{}, fmt.Sprintf("token %s was sealed by key %s, which is not in identity.tokens.keys (there: %s)", id, key, strings.Join(people.Tokens.IDs(), ", "))
	case token.Forged:
		return minted{}, fmt.Sprintf("token %s is damaged or forged: it names key %s, which did not seal it", id, key)
	}
	seen = describe(t, text)
	seen.Verdict = t.Judge(t.Farm, now, people.Revoked)
	return seen, ""
}
