package wintext

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Locales are the languages of which a real listing was seen, "en" first. The
// slice is the caller's.
func Locales() []Locale { return append([]Locale(nil), locales...) }

// LocaleByName finds one of Locales; ok is false if there is none of that name.
func LocaleByName(name string) (l Locale, ok bool) {
	for _, l := range locales {
		if l.Name == name {
			return l, true
		}
	}
	return Locale{}, false
}

// Word is the locale's word for a state; ok is false where none was captured,
// and RenderQuser and RenderQwinsta then print the English one.
func (l Locale) Word(s sessions.State) (word string, ok bool) {
	word, ok = l.states[s]
	return word, ok
}

// LogonText is t, in its own zone, in the date format that the locale's capture has.
func (l Locale) LogonText(t time.Time) string {
	if l.date == "" {
		return t.Format(locales[0].date)
	}
	return t.Format(l.date)
}

// IdleText is d in whole minutes as quser prints it: ".", "5", "1:05", "2+03:04".
func IdleText(d time.Duration) string {
	m := max(0, int(d/time.Minute))
	days, hours, minutes := m/(24*60), m/60%24, m%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d+%02d:%02d", days, hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%d:%02d", hours, minutes)
	case minutes > 0:
		return strconv.Itoa(minutes)
	}
	return "."
}

// RenderQuser writes rows as quser.exe prints them on a host of that language,
// in UTF-8 with CRLF. Rows without a user are left out and names in lower case,
// as there. StateText and IdleText are printed if set, else made from State and
// Idle; an IdleText of "none" is the locale's word for it.
func RenderQuser(w io.Writer, locale Locale, rows []Row) error {
	var b bytes.Buffer
	writeLine(&b, or(locale.quser, quserEnglish))
	for _, r := range rows {
		if r.User == "" {
			continue
		}
		left := quser.layouts[0].print(r.Own, strings.ToLower(r.User), cutName(r.SessionName, 15, "..."), strconv.Itoa(r.ID))
		writeLine(&b, left+"  "+padRight(locale.stateText(r), 6)+"  "+locale.idleColumn(r)+r.LogonText)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// RenderQwinsta writes rows as qwinsta.exe prints them; wide is the layout of
// newer Windows 11. Encoding, line ends and words are as in RenderQuser.
func RenderQwinsta(w io.Writer, locale Locale, rows []Row, wide bool) error {
	var b bytes.Buffer
	l, limit, dots, header := qwinsta.layouts[0], 16, "...", or(locale.qwinsta, qwinstaEnglish)
	if wide {
		// Only English headers were captured in this layout.
		l, limit, dots, header = qwinsta.layouts[1], 20, "", wideEnglish
	}
	writeLine(&b, header)
	for _, r := range rows {
		left := l.print(r.Own, cutName(r.SessionName, limit, dots), r.User, strconv.Itoa(r.ID))
		writeLine(&b, left+"  "+padRight(locale.stateText(r), 6)+"  "+padRight(r.Type, 12)+padLeft(r.Device, 8))
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeLine(b *bytes.Buffer, s string) { b.WriteString(s + "\r\n") }

func (l Locale) stateText(r Row) string {
	if r.StateText != "" {
		return r.StateText
	}
	return or(l.states[r.State], or(locales[0].states[r.State], "?"))
}

// idleColumn is the idle time with the blanks up to the logon time.
func (l Locale) idleColumn(r Row) string {
	switch {
	case r.IdleText == "none":
		return or(l.none, locales[0].none)
	case r.IdleText != "" && l.none != "" && r.IdleText == strings.TrimSpace(l.none):
		return l.none
	}
	return padLeft(or(r.IdleText, IdleText(r.Idle)), 9) + "  "
}

// cutName cuts a session name as the tools do: longer than limit, it ends in
// dots within the limit.
func cutName(name string, limit int, dots string) string {
	if utf8.RuneCountInString(name) <= limit {
		return name
	}
	return string([]rune(name)[:limit-len(dots)]) + dots
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
