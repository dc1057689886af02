package metrics

import "github.com/prometheus/client_golang/prometheus"

// Webhook are the messages of the webhook, as they are at a scrape.
type Webhook struct {
	Delivered, Undelivered, Lost, Retries uint64
	// Waiting are in the queue now.
	Waiting int
}

// WatchWebhook has get called at every scrape. It may be called once.
func (m *Metrics) WatchWebhook(get func() Webhook) {
	m.reg.MustRegister(webhookCollector{
		get:      get,
		messages: prometheus.NewDesc(namespace+"_webhook_messages_total", "Webhook messages, by outcome: delivered; undelivered are in the file for them; lost are nowhere.", []string{"outcome"}, nil),
		retries:  prometheus.NewDesc(namespace+"_webhook_retries_total", "Tries of webhook messages after the first one.", nil, nil),
		waiting:  prometheus.NewDesc(namespace+"_webhook_waiting", "Webhook messages that wait to be sent.", nil, nil),
	})
}

type webhookCollector struct {
	get                        func() Webhook
	messages, retries, waiting *prometheus.Desc
}

func (c webhookCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.messages
	ch <- c.retries
	ch <- c.waiting
}

func (c webhookCollector) Collect(ch chan<- prometheus.Metric) {
	w := c.get()
	for outcome, n := range map[string]uint64{"delivered": w.Delivered, "undelivered": w.Undelivered, "lost": w.Lost} {
		ch <- prometheus.MustNewConstMetric(c.messages, prometheus.CounterValue, float64(n), outcome)
	}
	ch <- prometheus.MustNewConstMetric(c.retries, prometheus.CounterValue, float64(w.Retries))
	ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(w.Waiting))
}
