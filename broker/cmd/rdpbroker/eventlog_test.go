package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// eventLines is an event log that keeps what it is told.
type eventLines []string

func (l *eventLines) note(level string, v []any) error {
	*l = append(*l, level+": "+fmt.Sprint(v...))
	return nil
}
func (l *eventLines) Info(v ...any) error    { return l.note("info", v) }
func (l *eventLines) Warning(v ...any) error { return l.note("warning", v) }
func (l *eventLines) Error(v ...any) error   { return l.note("error", v) }

func TestTheEventLogKeepsLevelsAndFields(t *testing.T) {
	var lines eventLines
	log := zap.New(newEventCore(zapcore.InfoLevel, &lines)).With(zap.String("host", "ts1"))
	log.Debug("never")
	log.Info("logged off", zap.Duration("took", 1500*time.Millisecond))
	log.Warn("not logged off")
	log.Error("stuck")
	want := []string{
		`info: logged off	{"host": "ts1", "took": "1.5s"}`,
		`warning: not logged off	{"host": "ts1"}`,
		`error: stuck	{"host": "ts1"}`,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", []string(lines), want)
	}
}
