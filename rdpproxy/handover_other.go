//go:build !linux

package rdpproxy

import "errors"

// Adopt is for Linux: nobody hands connections over elsewhere.
func (p *Proxy) Adopt(Carried, Route) error {
	return errors.New("connections are handed over on Linux only")
}
