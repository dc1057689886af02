package rdpserver

import "fmt"

// Event is one thing that the user did: a Key, a Char or a Mouse.
type Event interface{ isEvent() }

// Key is a key pressed or released, by its place on the keyboard.
type Key struct {
	// Scancode is of set 1 without prefix: 0x26 is L on a US keyboard.
	Scancode uint8
	// Extended keys come with the prefix E0 (right Ctrl, arrows), Extended1 with
	// E1 (Pause).
	Extended, Extended1 bool
	// Down is false when the key was let go. A held key repeats Down.
	Down bool
}

// Char is a character from a client that has no keyboard, such as a phone.
type Char struct {
	// Unit is one unit of UTF-16.
	Unit uint16
	Down bool
}

// Mouse is a movement of the mouse, its wheel or its buttons.
type Mouse struct {
	// Flags are pointerFlags of [MS-RDPBCGR] 2.2.8.1.1.3.1.1.3: PointerMove, …
	// For the buttons 4 and 5 (Extra), those of 2.2.8.1.1.3.1.1.4.
	Flags uint16
	Extra bool
	// X and Y are pixels from the upper left corner of the desktop.
	X, Y int
}

// Flags of a Mouse event.
const (
	PointerMove        = 0x0800
	PointerDown        = 0x8000 // with one of the buttons; without: the button was let go
	PointerLeftButton  = 0x1000
	PointerRightButton = 0x2000
	PointerMidButton   = 0x4000
)

func (Key) isEvent()   {}
func (Char) isEvent()  {}
func (Mouse) isEvent() {}

// parseInput reads the body of a slow-path Input Event PDU, [MS-RDPBCGR]
// 2.2.8.1.1.3. Synchronize and unused events are left out.
func parseInput(b []byte) ([]Event, error) {
	const (
		kindScancode = 0x0004
		kindUnicode  = 0x0005
		kindMouse    = 0x8001
		kindMouseX   = 0x8002

		keyExtended  = 0x0100
		keyExtended1 = 0x0200
		keyRelease   = 0x8000
	)
	c := cursor{b: b}
	count := c.u16()
	c.skip(2) // pad
	var events []Event
	for i := range count {
		c.skip(4) // eventTime, always 0
		kind := c.u16()
		// Every event of the slow path has six bytes, used or not.
		flags, first, second := c.u16(), c.u16(), c.u16()
		if c.err != nil {
			return nil, fmt.Errorf("input event %d of %d: %w", i+1, count, c.err)
		}
		down := flags&keyRelease == 0
		switch kind {
		case kindScancode:
			events = append(events, Key{
				Scancode: uint8(first), Down: down,
				Extended: flags&keyExtended != 0, Extended1: flags&keyExtended1 != 0,
			})
		case kindUnicode:
			events = append(events, Char{Unit: first, Down: down})
		case kindMouse, kindMouseX:
			events = append(events, Mouse{Flags: flags, Extra: kind == kindMouseX, X: int(first), Y: int(second)})
		}
	}
	return events, c.err
}

// parseFastInput reads a Client Fast-Path Input Event PDU behind its length,
// [MS-RDPBCGR] 2.2.8.1.2. Synchronize, relative mouse and timing events are
// left out.
func parseFastInput(header byte, b []byte) ([]Event, error) {
	const (
		kindScancode  = 0
		kindMouse     = 1
		kindMouseX    = 2
		kindSync      = 3
		kindUnicode   = 4
		kindRelative  = 5
		kindTimestamp = 6

		release   = 0x01
		extended  = 0x02
		extended1 = 0x04
	)
	c := cursor{b: b}
	count := int(header >> 2 & 0x0f)
	if count == 0 { // more than fit into the header
		count = int(c.u8())
	}
	var events []Event
	for i := range count {
		first := c.u8()
		kind, flags := first>>5, first&0x1f
		down := flags&release == 0
		var event Event
		switch kind {
		case kindScancode:
			event = Key{
				Scancode: c.u8(), Down: down,
				Extended: flags&extended != 0, Extended1: flags&extended1 != 0,
			}
		case kindMouse, kindMouseX:
			pointer, x, y := c.u16(), c.u16(), c.u16()
			event = Mouse{Flags: pointer, Extra: kind == kindMouseX, X: int(x), Y: int(y)}
		case kindUnicode:
			event = Char{Unit: c.u16(), Down: down}
		case kindSync: // its flags say it all
		case kindRelative:
			c.skip(6)
		case kindTimestamp:
			c.skip(4)
		default:
			return nil, fmt.Errorf("fast-path input event %d of %d: kind %d", i+1, count, kind)
		}
		if c.err != nil {
			return nil, fmt.Errorf("fast-path input event %d of %d: %w", i+1, count, c.err)
		}
		if event != nil {
			events = append(events, event)
		}
	}
	return events, nil
}
