package winagent

import "time"

// Config is how an agent is run. The zero value is meant for use: a zero
// duration is its default.
type Config struct {
	// StartWithin is how long a host may take until the agent has sent its first
	// state; it compiles the agent in that time. Default 60 s.
	StartWithin time.Duration
	// Beat is the pause between signs of life while nothing changes. Default 15 s.
	Beat time.Duration
	// Poll is how often the agent reads the sessions again if Windows signals
	// nothing. Default 5 s.
	Poll time.Duration
	// Processes is how often the processes of all sessions are read as well.
	// Default 30 s; negative never.
	Processes time.Duration
	// Ping is how often the agent hears from us. Default 30 s.
	Ping time.Duration
	// Silence is how long the agent lives without hearing from us. Default 90 s.
	Silence time.Duration
	// Lost is how long we wait for a sign of life, and for a reading, before the
	// host counts as lost. Default 45 s.
	Lost time.Duration
	// Lifetime is how long one agent is used before a new one takes over, while
	// it still runs: hosts end remote shells that live too long. Default 2 h; the
	// actual time is up to a quarter shorter.
	Lifetime time.Duration
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.StartWithin, time.Minute}, {&c.Beat, 15 * time.Second}, {&c.Poll, 5 * time.Second}, {&c.Processes, 30 * time.Second}, {&c.Ping, 30 * time.Second},
		{&c.Silence, 90 * time.Second}, {&c.Lost, 45 * time.Second}, {&c.Lifetime, 2 * time.Hour},
	} {
		if *d.field == 0 || *d.field < 0 && d.field != &c.Processes {
			*d.field = d.value
		}
	}
	return c
}
