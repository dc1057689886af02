package main

import (
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// eventLog is the log of a service manager, which knows three levels and keeps the
// time itself.
type eventLog interface {
	Info(v ...any) error
	Warning(v ...any) error
	Error(v ...any) error
}

// eventCore writes log entries to an eventLog.
type eventCore struct {
	zapcore.LevelEnabler
	enc zapcore.Encoder
	to  eventLog
}

// newEventCore is a core for entries of level and above.
func newEventCore(level zapcore.Level, to eventLog) zapcore.Core {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.LevelKey, c.CallerKey = zapcore.OmitKey, zapcore.OmitKey, zapcore.OmitKey
	c.EncodeDuration = zapcore.StringDurationEncoder
	return &eventCore{level, zapcore.NewConsoleEncoder(c), to}
}

// With implements zapcore.Core.
func (c *eventCore) With(fields []zapcore.Field) zapcore.Core {
	enc := c.enc.Clone()
	for _, f := range fields {
		f.AddTo(enc)
	}
	return &eventCore{c.LevelEnabler, enc, c.to}
}

// Check implements zapcore.Core.
func (c *eventCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *eventCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	b, err := c.enc.EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	defer b.Free()
	text := strings.TrimRight(b.String(), "\r\n")
	switch {
	case e.Level >= zapcore.ErrorLevel:
		return c.to.Error(text)
	case e.Level == zapcore.WarnLevel:
		return c.to.Warning(text)
	}
	return c.to.Info(text)
}

// Sync implements zapcore.Core: every entry is written at once.
func (c *eventCore) Sync() error { return nil }
