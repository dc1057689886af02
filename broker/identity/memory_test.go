package identity

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestNothingIsRememberedWhereThatIsOff(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		entries int
		known   bool
	}{{0, true}, {5, true}, {-1, false}} {
		r := NewResolver(Directory{}, Memory{Entries: c.entries})
		r.Learn(sessions.Identity{Client: client}, sessions.Account{User: "alice"})
		if id := r.Resolve(Hint{Client: client}, sessions.NewSnapshot(nil)); id.Known != c.known {
			t.Errorf("with %d entries: %+v", c.entries, id)
		}
	}
}

// TestMemoryOutlivesARestart: what one Resolver has learned, another one takes up.
func TestMemoryOutlivesARestart(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.1")
	snap := sessions.NewSnapshot(nil)
	before := NewResolver(Directory{Users: []sessions.Account{{User: "alexander"}, {User: "alexanders"}}}, Memory{})
	if all, changes := before.Remembered(); len(all) != 0 || changes != 0 {
		t.Errorf("at first %v, %d", all, changes)
	}
	id := before.Resolve(Hint{Client: client, Cookie: "Alexander"}, snap)
	for range 2 {
		before.Learn(id, sessions.Account{User: "alexanders"})
	}
	all, changes := before.Remembered()
	if len(all) != 2 || changes != 2 { // for the address, and for what was said there
		t.Fatalf("learned %v with %d changes", all, changes)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	var read []Remembered
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	read = append(read, Remembered{}, Remembered{Client: client.Next(), At: time.Now()}, Remembered{Account: sessions.Account{User: "x"}, At: time.Now()})

	for _, c := range []struct {
		name string
		mem  Memory
		at   time.Time
		want int
	}{
		{"soon", Memory{}, time.Now(), 2},
		{"too late", Memory{For: time.Hour}, time.Now().Add(2 * time.Hour), 0},
		{"by one who forgets all", Memory{Entries: -1}, time.Now(), 0},
	} {
		after := NewResolver(before.dir, c.mem)
		after.Recall(read, c.at)
		if got, _ := after.Remembered(); len(got) != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		id := after.Resolve(Hint{Client: client, Cookie: "Alexander"}, snap)
		if got := id.Guess.User; (got == "alexanders") != (c.want > 0) {
			t.Errorf("%s: it is guessed to be %q", c.name, got)
		}
	}
}
