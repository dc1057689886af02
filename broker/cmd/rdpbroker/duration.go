package main

import (
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/config"
)

// durationValue is a flag that takes a duration as broker.yaml does: 8h, 90d.
type durationValue time.Duration

func (d *durationValue) Set(s string) error {
	v, err := config.ParseDuration(s)
	if err == nil {
		*d = durationValue(v)
	}
	return err
}

func (d *durationValue) Type() string { return "duration" }

// String leaves out what is zero: 8h, and not 8h0m0s.
func (d *durationValue) String() string {
	s := time.Duration(*d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
