package sessions

// Host is one machine that holds sessions (RD Session Host, or an xrdp host),
// as the configuration describes it.
type Host struct {
	// Name is unique in the configuration and stands in logs, metrics and ties.
	Name string `json:"name"`
	// Farm is the farm that the host belongs to.
	Farm string `json:"farm"`
	// Addr is where it speaks RDP, host:port.
	Addr string `json:"addr"`
	// Slots overrides the session limit that the host reports; 0 believes the host.
	Slots int `json:"slots,omitempty"`
	// CountDisconnected overrides whether disconnected sessions hold slots;
	// Unknown ("auto" in broker.yaml) believes the host, and counts them where
	// the host does not tell.
	CountDisconnected Tri `json:"count_disconnected"`
	// Weight is the host's share under balance weighted; 0 means 1.
	Weight int `json:"weight,omitempty"`
	// Draining takes no new placements; users still get back to their sessions.
	Draining bool `json:"draining,omitempty"`
}

// Share is Weight, at least 1.
func (h *Host) Share() int { return max(1, h.Weight) }
