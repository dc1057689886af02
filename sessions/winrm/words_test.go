package winrm

import (
	"testing"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

func TestUnknownStateWordsAreNamed(t *testing.T) {
	rd := &reading{rows: []wintext.Row{
		{ID: 1, User: "anna", State: sessions.StateActive, StateText: "Active"},
		{ID: 2, User: "ewa", State: sessions.StateUnknown, StateText: "Rozł."},
		{ID: 3, User: "jan", State: sessions.StateUnknown, StateText: "Rozł."},
	}}
	got := rd.unknownWords()
	if want := `the state word "Rozł." is not known; such sessions count, and are never logged off`; len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want once %q", got, want)
	}
	rd.rows = rd.rows[:1]
	if got := rd.unknownWords(); got != nil {
		t.Errorf("with known words only: %q", got)
	}
}
