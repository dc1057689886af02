package wintext_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

// Windows account names have at most 20 characters, spaces inside, and none of
// "/\[]:;|=,+*?<> ; everything else may come, wide characters too.
var (
	userGen = rapid.OneOf(
		rapid.StringMatching(`[a-z][a-z0-9._-]{0,18}`),
		rapid.StringMatching(`[a-z0-9]{1,8}( {1,2}[a-z0-9]{1,5}){1,2}`),
		rapid.StringMatching(`[0-9]{1,6}`),
		rapid.StringMatching(`[а-я]{1,20}`),
		rapid.StringMatching(`[山田太郎鈴木]{1,20}`),
		rapid.StringMatching(`[a-zé田]{1,6} [山中a-z]{1,13}`),
		rapid.StringMatching(`[a-z0-9]{20}`),
	)
	sessionGen = rapid.OneOf(
		rapid.Just(""), rapid.Just("console"),
		rapid.StringMatching(`rdp-tcp#[0-9]{1,3}`),
		rapid.StringMatching(`[0-9a-f]{32}`),
		rapid.StringMatching(`rdp-sxs[0-9]{9}`),
		rapid.StringMatching(`ica-[a-z]{1,4} [0-9]{1,2}`),
	)
	stateGen = rapid.SampledFrom([]sessions.State{
		sessions.StateActive, sessions.StateConnected, sessions.StateConnectQuery, sessions.StateShadow,
		sessions.StateDisconnected, sessions.StateIdle, sessions.StateListen, sessions.StateReset, sessions.StateDown, sessions.StateInit,
	})
	localeGen = rapid.SampledFrom(wintext.Locales())
	idleGen   = rapid.OneOf(
		rapid.Just(time.Duration(0)),
		rapid.Map(rapid.IntRange(0, 59), func(n int) time.Duration { return time.Duration(n) * time.Minute }),
		rapid.Map(rapid.IntRange(0, 3650*24*60), func(n int) time.Duration { return time.Duration(n) * time.Minute }),
	)
)

// drawState draws a state and the word that the renderer prints for it.
func drawState(t *rapid.T, l wintext.Locale) (sessions.State, string) {
	s := stateGen.Draw(t, "state")
	if word, ok := l.Word(s); ok {
		return s, word
	}
	word, _ := wintext.Locales()[0].Word(s)
	return s, word
}

func cut(name string, most int, dots string) string {
	if len(name) > most {
		return name[:most-len(dots)] + dots
	}
	return name
}

func TestQuserRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		locale := localeGen.Draw(t, "locale")
		var in, want []wintext.Row
		for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, 65535), 0, 6, rapid.ID[int]).Draw(t, "ids") {
			state, word := drawState(t, locale)
			r := wintext.Row{
				Own: rapid.Bool().Draw(t, "own"), User: userGen.Draw(t, "user"), SessionName: sessionGen.Draw(t, "session"),
				ID: id, State: state, Idle: idleGen.Draw(t, "idle"), HasIdle: true,
				LogonText: locale.LogonText(time.Unix(rapid.Int64Range(1e9, 2e9).Draw(t, "logon"), 0).UTC()),
			}
			w := r
			switch rapid.IntRange(0, 9).Draw(t, "idle form") {
			case 0:
				r.IdleText, r.Idle = "none", 0
			case 1:
				r.IdleText, r.Idle = "*", 0
			case 2:
				r.IdleText, r.Idle = "24692+13:29", 0
			}
			w.Idle, w.IdleText = r.Idle, r.IdleText
			if w.IdleText == "" {
				w.IdleText = wintext.IdleText(w.Idle)
			}
			w.StateText, w.SessionName = word, cut(r.SessionName, 15, "...")
			in, want = append(in, r), append(want, w)
		}
		var b bytes.Buffer
		wintext.RenderQuser(&b, locale, in)
		got, err := wintext.ParseQuser(b.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		for i := range got {
			if want[i].IdleText == "none" { // printed in the locale's word
				want[i].IdleText = got[i].IdleText
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got)\n%s\n%s", diff, b.String())
		}
	})
}

func TestQwinstaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		locale, wide := localeGen.Draw(t, "locale"), rapid.Bool().Draw(t, "wide")
		var in, want []wintext.Row
		for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, 70000), 1, 6, rapid.ID[int]).Draw(t, "ids") {
			state, word := drawState(t, locale)
			r := wintext.Row{
				Own: rapid.Bool().Draw(t, "own"), SessionName: sessionGen.Draw(t, "session"), ID: id, State: state,
				Type: rapid.SampledFrom([]string{"", "rdpwd", "wdcon", "twelve chars"}).Draw(t, "type"),
			}
			if r.Type != "" {
				r.Device = rapid.SampledFrom([]string{"", "COM1", "12345678"}).Draw(t, "device")
			}
			if rapid.Bool().Draw(t, "has user") {
				r.User = userGen.Draw(t, "user")
			}
			w := r
			w.StateText, w.SessionName = word, cut(r.SessionName, 16, "...")
			if wide {
				w.SessionName = cut(r.SessionName, 20, "")
			}
			in, want = append(in, r), append(want, w)
		}
		var b bytes.Buffer
		wintext.RenderQwinsta(&b, locale, in, wide)
		text := b.String()
		if rapid.Bool().Draw(t, "counters") {
			text += "Total sessions created: 5\r\nTotal sessions disconnected: 9\r\nTotal sessions reconnected: 3\r\n"
		}
		got, err := wintext.ParseQwinsta(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got)\n%s\n%s", diff, text)
		}
	})
}

// The renderer prints the captured rows as they were captured, byte for byte.
func TestRenderPrintsTheCaptures(t *testing.T) {
	for _, tt := range []struct {
		file, locale string
		render       func(*bytes.Buffer, wintext.Locale, []wintext.Row) error
		parse        func(string) ([]wintext.Row, error)
	}{
		{"quser-de-server-1", "de", quserTo, wintext.ParseQuser},
		{"quser-de-win11-1", "de", quserTo, wintext.ParseQuser},
		{"quser-en-avd-1", "en", quserTo, wintext.ParseQuser},
		{"quser-en-server-2", "en", quserTo, wintext.ParseQuser},
		{"quser-en-server-3", "en", quserTo, wintext.ParseQuser},
		{"quser-en-win10-1", "en", quserTo, wintext.ParseQuser},
		{"quser-en-win10-2", "en", quserTo, wintext.ParseQuser},
		{"quser-es-win10-1", "es", quserTo, wintext.ParseQuser},
		{"quser-fr-win-1", "fr", quserTo, wintext.ParseQuser},
		{"quser-ptBR-win-1", "pt-BR", quserTo, wintext.ParseQuser},
		{"quser-ru-win10-1", "ru", quserTo, wintext.ParseQuser},
		{"quser-ru-win10-3", "ru", quserTo, wintext.ParseQuser},
		{"quser-zhCN-2008r2-1", "zh-CN", quserTo, wintext.ParseQuser},
		{"quser-zhCN-win-2", "zh-CN", quserTo, wintext.ParseQuser},
		{"quser-zhCN-win10-1", "zh-CN", quserTo, wintext.ParseQuser},
		{"qwinsta-en-2003-1", "en", narrowTo, wintext.ParseQwinsta},
		{"qwinsta-en-rdsh-1", "en", narrowTo, wintext.ParseQwinsta},
		{"qwinsta-en-win10-1", "en", narrowTo, wintext.ParseQwinsta},
		{"qwinsta-en-winrm-1", "en", narrowTo, wintext.ParseQwinsta},
		{"qwinsta-es-server-1", "es", narrowTo, wintext.ParseQwinsta},
		{"qwinsta-ja-win-1", "ja", narrowTo, wintext.ParseQwinsta},
		{"qwinsta-ru-testdata-1", "ru", narrowTo, wintext.ParseQwinsta},
		{"qwinsta-en-avdwide-1", "en", wideTo, wintext.ParseQwinsta},
		{"qwinsta-en-win11wide-1", "en", wideTo, wintext.ParseQwinsta},
	} {
		t.Run(tt.file, func(t *testing.T) {
			text := sample(t, "testdata/"+tt.file+".txt")
			rows, err := tt.parse(text)
			if err != nil {
				t.Fatal(err)
			}
			locale, ok := wintext.LocaleByName(tt.locale)
			if !ok {
				t.Fatal("no such locale")
			}
			var b bytes.Buffer
			if err := tt.render(&b, locale, rows); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(trimRight(text), trimRight(b.String())); diff != "" {
				t.Errorf("(-captured +rendered)\n%s", diff)
			}
		})
	}
}

func quserTo(b *bytes.Buffer, l wintext.Locale, rows []wintext.Row) error {
	return wintext.RenderQuser(b, l, rows)
}

func narrowTo(b *bytes.Buffer, l wintext.Locale, rows []wintext.Row) error {
	return wintext.RenderQwinsta(b, l, rows, false)
}

func wideTo(b *bytes.Buffer, l wintext.Locale, rows []wintext.Row) error {
	return wintext.RenderQwinsta(b, l, rows, true)
}

func trimRight(s string) string {
	lines := strings.Split(strings.TrimRight(s, " \r\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	return strings.Join(lines, "\n")
}

func ExampleRenderQuser() {
	var b bytes.Buffer
	de, _ := wintext.LocaleByName("de")
	wintext.RenderQuser(&b, de, []wintext.Row{
		{User: "Anna", ID: 3, State: sessions.StateDisconnected, Idle: 95 * time.Minute, LogonText: "28.04.2025 12:03"},
	})
	fmt.Print(trimRight(b.String()))
	// Output:
	//  BENUTZERNAME          SITZUNGSNAME       ID  STATUS  LEERLAUF   ANMELDEZEIT
	//  anna                                      3  Getr.        1:35  28.04.2025 12:03
}
