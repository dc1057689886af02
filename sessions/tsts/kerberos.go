package tsts

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/oiweiwei/go-msrpc/ssp/krb5"
	"github.com/oiweiwei/gokrb5.fork/v9/client"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/nametype"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// tickets logs on to the KDC and returns tickets for the services, as a
// credential of the library. The library would do so by itself, but then each
// connection leaves a client behind that renews its tickets for ever.
func (d *dialer) tickets(ctx context.Context, password string, services ...string) ([]gssapi.ContextOption, error) {
	conf, err := krb5.LoadKRB5Conf(d.t.KerberosConfig)
	if err != nil {
		return nil, fmt.Errorf("krb5.conf: %w", err)
	}
	who := credential.New(d.t.User)
	realm := d.t.Realm
	if realm == "" {
		realm = strings.ToUpper(who.DomainName())
	}
	settings := []func(*client.Settings){client.DisablePAFXFAST(true), client.Dialer(kdcDialer{ctx})}
	cl := client.NewWithPassword(who.UserName(), realm, password, conf, settings...)
	if d.t.Keytab != "" {
		keys, err := keytab.Load(d.t.Keytab)
		if err != nil {
			return nil, fmt.Errorf("keytab: %w", err)
		}
		cl = client.NewWithKeytab(who.UserName(), realm, keys, conf, settings...)
	}
	defer cl.Destroy()
	if err := cl.Login(); err != nil {
		return nil, fmt.Errorf("log on to the KDC of %s: %w", realm, err)
	}
	me := credentials.Principal{Realm: realm, PrincipalName: types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, who.UserName())}
	cache := &credentials.CCache{DefaultPrincipal: me}
	for _, spn := range services {
		ticket, key, err := cl.GetServiceTicket(spn)
		if err != nil {
			return nil, fmt.Errorf("ticket for %s: %w", spn, err)
		}
		raw, err := ticket.Marshal()
		if err != nil {
			return nil, fmt.Errorf("ticket for %s: %w", spn, err)
		}
		// Used at once: how long it is valid is for the host to judge.
		now := time.Now()
		cache.Credentials = append(cache.Credentials, &credentials.Credential{
			Client: me, Server: credentials.Principal{Realm: ticket.Realm, PrincipalName: ticket.SName},
			Key: key, AuthTime: now, StartTime: now.Add(-time.Hour), EndTime: now.Add(time.Hour), Ticket: raw,
		})
	}
	return []gssapi.ContextOption{
		gssapi.NewCredential("", nil, gssapi.InitiateOnly, credential.NewFromCCache(who.UserName(), cache, credential.Domain(realm))),
		gssapi.WithMechanismConfig(&krb5.Config{KRB5Config: conf, DCEStyle: true, DisablePAFXFAST: true}),
	}, nil
}

// kdcDialer ends connections to KDCs with the context. (The library bounds each by
// five seconds.) It lives for one logon.
type kdcDialer struct{ ctx context.Context }

// Dial implements client.KDCDialer.
func (k kdcDialer) Dial(network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(k.ctx, network, address)
}

// kdcRefusal is the code by which a KDC refused the account, or "". The library
// keeps no more of a KDC's error than its text.
func kdcRefusal(err error) string {
	for _, code := range []string{"KDC_ERR_PREAUTH_FAILED", "KDC_ERR_CLIENT_REVOKED", "KDC_ERR_C_PRINCIPAL_UNKNOWN", "KDC_ERR_KEY_EXPIRED"} {
		if strings.Contains(err.Error(), code) {
			return code
		}
	}
	return ""
}
