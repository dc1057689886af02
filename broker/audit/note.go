package audit

// Note is what a reader of the audit must know of the audit.
type Note struct {
	// Torn: what stands between this line and the line of the chain before it was
	// cut off as it was written, by a crash or a full disk.
	Torn *Torn `json:"torn,omitempty"`
	// Lost is how many records could not be written since the last line that told
	// of such.
	Lost uint64 `json:"lost,omitempty"`
	// Gap: the broker started, and the lines From to To, which it had written, were
	// not in the file.
	Gap *Span `json:"gap,omitempty"`
	// Retired are the lines of a file that was deleted because it was old enough.
	Retired *Span `json:"retired,omitempty"`
}

// Torn describes bytes that are no line, without the end of line behind them.
type Torn struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Span is lines by number, both ends among them.
type Span struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}
