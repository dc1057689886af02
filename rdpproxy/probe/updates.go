// SPDX-License-Identifier: GPL-3.0-only

package probe

import (
	"errors"
	"fmt"
)

// maxUpdate is the size of the largest fast-path update that the probe puts
// together from fragments.
const maxUpdate = 1 << 20

// The updateType of slow-path updates and the updateCode of fast-path ones.
const updateBitmap = 1

// slowPathUpdate paints a slow-path graphics update, [MS-RDPBCGR] 2.2.9.1.1.3.
func (s *screen) slowPathUpdate(body []byte) error {
	in := cursor{b: body}
	if kind := in.u16(); in.short || kind != updateBitmap {
		return in.err()
	}
	return s.bitmapUpdate(in.b)
}

// fastPath puts fast-path updates together, [MS-RDPBCGR] 2.2.9.1.2.1.
type fastPath struct {
	pending []byte // the fragments so far
}

// The fragmentation of an update.
const (
	fragmentSingle = iota
	fragmentLast
	fragmentFirst
	fragmentNext
)

var errBulk = errors.New("fast-path update: compressed, though the probe did not offer that")

// paint paints all updates of one fast-path PDU, and keeps a fragment for later.
func (f *fastPath) paint(s *screen, data []byte) error {
	in := cursor{b: data}
	for len(in.b) > 0 {
		head := in.u8()
		code, fragment, compression := head&0x0f, head>>4&3, head>>6
		if compression&0x2 != 0 {
			return errBulk
		}
		body := in.take(int(in.u16()))
		if err := in.err(); err != nil {
			return fmt.Errorf("fast-path update: %w", err)
		}
		switch fragment {
		case fragmentFirst:
			f.pending = append(f.pending[:0], body...)
			continue
		case fragmentNext, fragmentLast:
			if len(f.pending)+len(body) > maxUpdate {
				return errors.New("fast-path update: larger than the probe said it would take")
			}
			f.pending = append(f.pending, body...)
			if fragment == fragmentNext {
				continue
			}
			body, f.pending = f.pending, nil
		}
		if code != updateBitmap {
			continue
		}
		update := cursor{b: body}
		update.skip(2) // updateType, again
		if err := s.bitmapUpdate(update.b); err != nil {
			return err
		}
	}
	return nil
}
