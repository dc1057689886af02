package daemon

import (
	"context"
	"fmt"

	"github.com/rdpbroker/rdpbroker/broker/admin/client"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/broker/webhook"
)

// hook is where cfg wants messages sent, nil for nowhere.
func hook(cfg *config.Config, version string) (*webhook.Config, error) {
	w := cfg.Audit.Webhook
	if w == nil {
		return nil, nil
	}
	transport, err := webhook.NewClient(w.CAFile)
	if err != nil {
		return nil, fmt.Errorf("audit.webhook.ca_file: %w", err)
	}
	c := &webhook.Config{
		URL: w.URL, Events: w.Events, Timeout: w.Timeout, Tries: w.Tries, Undelivered: w.Undelivered,
		Client: transport, UserAgent: "rdpbroker/" + version, Text: client.AuditLine,
	}
	if !w.Secret.IsZero() {
		c.Secret = w.Secret.Read
	}
	return c, nil
}

// Resend sends the messages that cfg's webhook has not taken again.
func Resend(ctx context.Context, cfg *config.Config, version string) (webhook.Resent, error) {
	c, err := hook(cfg, version)
	if err != nil {
		return webhook.Resent{}, err
	}
	defer c.Client.CloseIdleConnections()
	return webhook.Resend(ctx, c)
}
