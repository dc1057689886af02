// Package loadgen makes load for proxies in front of RDP hosts, and measures how
// they carry it: connections to the end of the X.224 exchange, bulk data, small
// exchanges, idle connections. It also plays the hosts behind them.
//
// It is cheap enough not to be the bottleneck: one epoll loop on one thread, no
// goroutine and no buffer per connection. Linux only.
package loadgen
