package simhost

import (
	"fmt"
	"image"
	"image/color"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
	"golang.org/x/image/font"
)

// scene is what a desktop shows, in host time.
type scene struct {
	host     string
	accent   color.RGBA
	now      time.Time
	session  sessions.Session
	kind     AttachmentKind
	since    time.Time // when this client came, by the host's clock
	room     *Room     // its At is in host time here
	sessions []sessions.Session
	used     int
	slots    int // 0: no limit
}

// notice is a message in place of a desktop.
type notice struct {
	host   string
	accent color.RGBA
	title  string
	text   string
	left   time.Duration // until the connection is closed
}

// painter draws the pictures of one client.
type painter struct {
	size  image.Point
	types *typeface
	faces map[faceKey]font.Face
}

func newPainter(types *typeface, width, height int) *painter {
	return &painter{size: image.Pt(width, height), types: types, faces: map[faceKey]font.Face{}}
}

// canvas is an empty picture, scaled so that w by h points fit.
func (p *painter) canvas(w, h float64, accent color.RGBA) *canvas {
	c := &canvas{
		img:   image.NewRGBA(image.Rectangle{Max: p.size}),
		scale: min(float64(p.size.X)/w, float64(p.size.Y)/h),
		types: p.types, faces: p.faces,
	}
	c.gradient(mix(night, accent, 0.16), night)
	return c
}

const margin = 48.0

// desktop draws a scene. button is where "Log off" is, in pixels.
func (p *painter) desktop(s scene) (img *image.RGBA, button image.Rectangle) {
	const w, h = 1180.0, 720.0
	c := p.canvas(w, h, s.accent)
	right := float64(p.size.X)/c.scale - margin
	bottom := float64(p.size.Y)/c.scale - margin

	// The host.
	c.box(margin, 46, 7, 72, 3.5, s.accent)
	c.text(margin+26, 64, "SIMULATED WINDOWS HOST", medium, 15, s.accent)
	c.text(margin+24, 116, c.fit(s.host, bold, 56, right-margin-260), bold, 56, ink)
	clock := s.now.Format("15:04:05")
	c.text(right-c.width(clock, medium, 34), 88, clock, medium, 34, ink)
	day := s.now.Format("Monday, 2 January 2006")
	c.text(right-c.width(day, regular, 16), 114, day, regular, 16, soft)

	// The user.
	top := 150.0
	left := margin + 360
	c.box(margin, top, 340, bottom-top-64, 14, panel)
	c.text(margin+28, top+48, "Signed in as", regular, 17, soft)
	c.text(margin+28, top+92, c.fit(s.session.Account.User, bold, 40, 284), bold, 40, ink)
	if d := s.session.Account.Domain; d != "" {
		c.text(margin+28, top+118, c.fit(d, regular, 16, 284), regular, 16, faint)
	}
	c.text(margin+28, top+172, "Session", regular, 17, soft)
	c.text(margin+26, top+240, fmt.Sprint(s.session.ID), bold, 68, s.accent)
	c.badge(margin+28, top+266, kindText(s.kind, s.room), s.accent)
	y := top + 336
	for _, line := range [][2]string{
		{"Logged on", s.session.LogonAt.Format("15:04:05") + ", " + ago(s.now.Sub(s.session.LogonAt))},
		{"Connected", s.since.Format("15:04:05") + ", " + ago(s.now.Sub(s.since))},
		{"Client", clientText(s.session)},
	} {
		c.text(margin+28, y, line[0], regular, 15, faint)
		c.text(margin+118, y, c.fit(line[1], regular, 15, 204), regular, 15, ink)
		y += 27
	}

	// The room that was made.
	tableTop := top
	if s.room != nil {
		c.box(left, top, right-left, 64, 14, mix(panel, amber, 0.22))
		c.box(left, top, 6, 64, 3, amber)
		text := fmt.Sprintf("Room was made for you: session %d of %s%s was logged off through management, %s.",
			s.room.ID, s.room.Account.User, disconnectedText(s.room.DisconnectedFor), ago(s.now.Sub(s.room.At)))
		size, lines := 18.0, []string(nil)
		for ; size > 12; size-- {
			if lines = c.wrap(text, medium, size, right-left-52); len(lines) <= 2 {
				break
			}
		}
		for i, line := range lines {
			c.text(left+28, top+38+float64(i)*(size+5)-float64(len(lines)-1)*(size+5)/2, line, medium, size, amber)
		}
		tableTop += 82
	}
	c.table(s, left, tableTop, right, bottom-64)

	// What one can do.
	label := "Log off"
	bw := c.width(label, medium, 18) + 56
	c.frame(margin, bottom-44, bw, 44, 10, 1.5, s.accent, mix(night, s.accent, 0.14))
	c.text(margin+28, bottom-16, label, medium, 18, ink)
	hint := "Press L or click to log off. Closing the window disconnects; the session stays."
	c.text(margin+bw+24, bottom-16, c.fit(hint, regular, 16, right-margin-bw-24), regular, 16, soft)
	return c.img, image.Rect(c.px(margin), c.px(bottom-44), c.px(margin+bw), c.px(bottom))
}

// badge is a word in a pill.
func (c *canvas) badge(x, y float64, text string, accent color.RGBA) {
	w := c.width(text, medium, 16) + 32
	c.box(x, y, w, 32, 16, mix(panel, accent, 0.28))
	c.text(x+16, y+22, text, medium, 16, mix(accent, ink, 0.45))
}

// table lists the host's sessions.
func (c *canvas) table(s scene, left, top, right, bottom float64) {
	c.box(left, top, right-left, bottom-top, 14, panel)
	c.text(left+28, top+44, "Sessions on this host", medium, 21, ink)
	slots := fmt.Sprintf("%d held, no limit", s.used)
	if s.slots > 0 {
		slots = fmt.Sprintf("%d of %d slots held", s.used, s.slots)
		for i := range min(s.slots, 16) {
			col := raised
			if i < s.used {
				col = s.accent
			}
			c.box(right-28-float64(min(s.slots, 16)-i)*18+4, top+30, 14, 14, 4, col)
		}
	}
	gap := 28.0
	if s.slots > 0 {
		gap += float64(min(s.slots, 16))*18 + 10
	}
	c.text(right-gap-c.width(slots, regular, 16), top+43, slots, regular, 16, soft)

	width := right - left - 56
	columns := []float64{0, 0.11, 0.44, 0.68}
	for i, head := range []string{"ID", "User", "State", "Since"} {
		c.text(left+28+columns[i]*width, top+84, head, regular, 14, faint)
	}
	const row = 40.0
	y := top + 98
	list := listed(s.sessions)
	room := max(0, int((bottom-y-12)/row))
	for i, x := range list {
		if i == room-1 && len(list) > room {
			c.text(left+28, y+26, fmt.Sprintf("and %d more", len(list)-i), regular, 16, faint)
			break
		}
		if i >= room {
			break
		}
		own := x.ID == s.session.ID
		if own {
			c.box(left+14, y, right-left-28, row-4, 8, raised)
		}
		name, since := x.Account.User, x.LogonAt
		if x.State == sessions.StateDisconnected {
			since = x.DisconnectedAt
		}
		w, col := regular, soft
		if own {
			w, col = medium, ink
		}
		c.text(left+28, y+25, fmt.Sprint(x.ID), w, 17, col)
		if x.Name == "console" {
			name = strings.TrimSpace(name + " (console)")
		}
		c.text(left+28+columns[1]*width, y+25, c.fit(name, w, 17, (columns[2]-columns[1])*width-12), w, 17, col)
		c.dot(left+36+columns[2]*width, y+19, 5, stateColor(x.State))
		c.text(left+52+columns[2]*width, y+25, x.State.String(), w, 17, col)
		c.text(left+28+columns[3]*width, y+25, c.fit(ago(s.now.Sub(since)), regular, 16, (1-columns[3])*width), regular, 16, faint)
		y += row
	}
}

// notice draws a message as Windows shows one.
func (p *painter) notice(n notice) *image.RGBA {
	const w, h = 900.0, 560.0
	c := p.canvas(w, h, n.accent)
	full, high := float64(p.size.X)/c.scale, float64(p.size.Y)/c.scale
	c.box(margin, 46, 6, 44, 3, n.accent)
	c.text(margin+20, 82, c.fit(n.host, bold, 38, full-2*margin-20), bold, 38, ink)

	width := min(full-2*margin, 720)
	lines := c.wrap(n.text, regular, 23, width-140)
	height := 130 + 33*float64(len(lines))
	x, y := (full-width)/2, max(110, (high-height)/2)
	c.box(x, y, width, height, 16, panel)
	c.box(x, y, width, 8, 4, rose)
	c.dot(x+58, y+68, 24, rose)
	c.text(x+58-c.width("!", bold, 30)/2, y+79, "!", bold, 30, panel)
	c.text(x+104, y+64, n.title, bold, 25, ink)
	for i, line := range lines {
		c.text(x+104, y+104+33*float64(i), line, regular, 23, ink)
	}
	closing := fmt.Sprintf("This connection closes in %d s.", int(n.left.Round(time.Second)/time.Second))
	c.text(x+104, y+height+34, closing, regular, 17, soft)
	return c.img
}
