package simhost

import (
	"fmt"
	"hash/fnv"
	"image/color"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Colours that all hosts share.
var (
	ink    = color.RGBA{0xe9, 0xed, 0xf2, 0xff}
	soft   = color.RGBA{0xa3, 0xae, 0xbb, 0xff}
	faint  = color.RGBA{0x6d, 0x79, 0x88, 0xff}
	night  = color.RGBA{0x0f, 0x14, 0x1b, 0xff}
	panel  = color.RGBA{0x1b, 0x23, 0x2d, 0xff}
	raised = color.RGBA{0x26, 0x30, 0x3c, 0xff}
	amber  = color.RGBA{0xe2, 0xb0, 0x5e, 0xff}
	green  = color.RGBA{0x7d, 0xc4, 0x8a, 0xff}
	rose   = color.RGBA{0xd9, 0x7b, 0x86, 0xff}
)

// accents tell hosts apart at a glance.
var accents = []color.RGBA{
	{0x4c, 0xb5, 0xae, 0xff}, {0x6f, 0xa3, 0xdd, 0xff}, {0xa9, 0x8c, 0xdf, 0xff}, {0xdb, 0x9a, 0x62, 0xff},
	{0xcf, 0x82, 0xa6, 0xff}, {0x8d, 0xb8, 0x6a, 0xff}, {0x5d, 0xb2, 0xd6, 0xff}, {0xc9, 0xb0, 0x5b, 0xff},
}

// accentOf is a colour for a host that was given none.
func accentOf(host string) color.RGBA {
	h := fnv.New32a()
	h.Write([]byte(host))
	return accents[h.Sum32()%uint32(len(accents))]
}

// listed are the sessions that people care for: those with a user or in an odd state.
func listed(all []sessions.Session) []sessions.Session {
	var list []sessions.Session
	for _, s := range all {
		if s.HasUser() || (s.Name == "" && s.ID > 0) {
			list = append(list, s)
		}
	}
	return list
}

func stateColor(s sessions.State) color.RGBA {
	switch s {
	case sessions.StateActive:
		return green
	case sessions.StateDisconnected:
		return amber
	case sessions.StateDown, sessions.StateReset:
		return rose
	}
	return faint
}

func kindText(k AttachmentKind, room *Room) string {
	switch {
	case k == AttachedReconnected:
		return "Reconnected to your session"
	case k == AttachedTookOver:
		return "Taken over from your other client"
	case room != nil:
		return "New session, room was made"
	}
	return "New session"
}

func clientText(s sessions.Session) string {
	name := s.ClientName
	if s.ClientAddr.IsValid() {
		name = strings.TrimPrefix(name+", "+s.ClientAddr.String(), ", ")
	}
	return name
}

func disconnectedText(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return ", disconnected for " + spell(d) + ","
}

// ago spells how long ago something was, in steps that do not flicker.
func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return spell(d) + " ago"
}

func spell(d time.Duration) string {
	plural := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	switch {
	case d >= 48*time.Hour:
		return plural(d/(24*time.Hour), "day")
	case d >= time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
