package rdpserver

import (
	"reflect"
	"testing"
)

func TestParseFastInput(t *testing.T) {
	for _, test := range []struct {
		name   string
		header byte
		body   []byte
		want   []Event
	}{
		{"key down and up", 2 << 2, []byte{0x00, 0x26, 0x01, 0x26}, []Event{Key{Scancode: 0x26, Down: true}, Key{Scancode: 0x26}}},
		{"right Ctrl", 1 << 2, []byte{0x02, 0x1d}, []Event{Key{Scancode: 0x1d, Extended: true, Down: true}}},
		{"Pause", 1 << 2, []byte{0x05, 0x1d}, []Event{Key{Scancode: 0x1d, Extended1: true}}},
		{"character", 1 << 2, []byte{0x80, 0xac, 0x20}, []Event{Char{Unit: '€', Down: true}}},
		{"button", 1 << 2, []byte{0x20, 0x00, 0x90, 0x01, 0x02, 0x03, 0x04},
			[]Event{Mouse{Flags: PointerDown | PointerLeftButton, X: 0x201, Y: 0x403}}},
		{"button 4", 1 << 2, []byte{0x40, 0x01, 0x80, 5, 0, 6, 0}, []Event{Mouse{Flags: 0x8001, Extra: true, X: 5, Y: 6}}},
		{"lock keys, relative mouse, timestamp, key", 4 << 2,
			[]byte{0x67, 0xa0, 1, 2, 3, 4, 5, 6, 0xc0, 1, 2, 3, 4, 0x00, 0x01}, []Event{Key{Scancode: 1, Down: true}}},
		{"number outside of the header", 0, []byte{2, 0x00, 1, 0x00, 2}, []Event{Key{Scancode: 1, Down: true}, Key{Scancode: 2, Down: true}}},
	} {
		got, err := parseFastInput(test.header, test.body)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

func TestParseInput(t *testing.T) {
	event := func(kind, flags, first, second int) []byte {
		return concat(dwords(0), words(kind, flags, first, second))
	}
	got, err := parseInput(concat(words(7, 0),
		event(0x0000, 0, 2, 0), // lock keys
		event(0x0004, 0x0000, 0x26, 0),
		event(0x0004, 0xc100, 0x1d, 0),
		event(0x0005, 0x8000, 0x20ac, 0),
		event(0x8001, 0x0800, 10, 20),
		event(0x8002, 0x8001, 10, 20),
		event(0x8004, 0x0800, 1, 1), // relative mouse
	))
	want := []Event{
		Key{Scancode: 0x26, Down: true},
		Key{Scancode: 0x1d, Extended: true},
		Char{Unit: '€'},
		Mouse{Flags: PointerMove, X: 10, Y: 20},
		Mouse{Flags: 0x8001, Extra: true, X: 10, Y: 20},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}
