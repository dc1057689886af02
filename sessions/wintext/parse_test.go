package wintext_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rdpbroker/rdpbroker/sessions"
	"github.com/rdpbroker/rdpbroker/sessions/wintext"
)

const (
	quserHeader   = " USERNAME              SESSIONNAME        ID  STATE   IDLE TIME  LOGON TIME\n"
	qwinstaHeader = " SESSIONNAME       USERNAME                 ID  STATE   TYPE        DEVICE\n"
)

func TestParseQuser(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []wintext.Row
		wantErr    string
	}{
		{
			name: "Italian, disconnected rows have no session name",
			text: " NOMEUTENTE            NOMESESSIONE       ID  STATO   INATTIVITÀ ACCESSO\n" +
				">a11111a               rdp-tcp#87          2  Attivo          .  02/09/2024 09:47\n" +
				" c22222c                                   3  Disc      1+03:52  05/09/2024 12:51\n",
			want: []wintext.Row{
				{Own: true, User: "a11111a", SessionName: "rdp-tcp#87", ID: 2, State: sessions.StateActive, StateText: "Attivo", HasIdle: true, IdleText: ".", LogonText: "02/09/2024 09:47"},
				{User: "c22222c", ID: 3, State: sessions.StateDisconnected, StateText: "Disc", HasIdle: true, Idle: 27*time.Hour + 52*time.Minute, IdleText: "1+03:52", LogonText: "05/09/2024 12:51"},
			},
		},
		{
			name: "a user name with blanks and a number",
			text: quserHeader + " room 12  desk  3                          4  Disc         1:05  5/10/2026 3:57 PM\n",
			want: []wintext.Row{{User: "room 12  desk  3", ID: 4, State: sessions.StateDisconnected, StateText: "Disc", HasIdle: true, Idle: 65 * time.Minute, IdleText: "1:05", LogonText: "5/10/2026 3:57 PM"}},
		},
		{
			name: "an unknown state word and an unknown idle word",
			text: quserHeader + " rick                  console             1  Niepod.    żaden   29-9-2026 08:00\n",
			want: []wintext.Row{{User: "rick", SessionName: "console", ID: 1, StateText: "Niepod.", IdleText: "żaden", LogonText: "29-9-2026 08:00"}},
		},
		{
			name: "an idle time out of range is text",
			text: quserHeader + " rick                                      1  Disc        25:00  29-9-2026 08:00\n",
			want: []wintext.Row{{User: "rick", ID: 1, State: sessions.StateDisconnected, StateText: "Disc", IdleText: "25:00", LogonText: "29-9-2026 08:00"}},
		},
		{
			name: "bytes of an OEM code page count one cell each",
			text: quserHeader + " jos\x82                  console             1  Active          .  29-9-2026 08:00\n",
			want: []wintext.Row{{User: "jos\x82", SessionName: "console", ID: 1, State: sessions.StateActive, StateText: "Active", HasIdle: true, IdleText: ".", LogonText: "29-9-2026 08:00"}},
		},
		{name: "header only", text: quserHeader},
		{name: "nothing", text: "\r\n", wantErr: "printed nothing"},
		{name: "an error text", text: "Access is denied.\n", wantErr: "not a row"},
		{name: "an error text under the header", text: quserHeader + "Error [5]:Access is denied.\n", wantErr: "not a row"},
		{name: "an error text in columns", text: "  Der  Zugriff  verweigert 5  \n", wantErr: "not a row"},
		{name: "two headers", text: quserHeader + quserHeader, wantErr: "not a row"},
		{name: "a listener", text: quserHeader + "                       rdp-tcp         65536  Listen          .  29-9-2026 08:00\n", wantErr: "not a row"},
		{name: "no idle column", text: quserHeader + " rick                  console             1  Active             29-9-2026 08:00\n", wantErr: "not a row"},
		{name: "no logon time", text: quserHeader + " rick                  console             1  Active          .  \n", wantErr: "not a row"},
		{name: "a tab", text: quserHeader + " rick\tconsole             1  Active          .  29-9-2026 08:00\n", wantErr: "control character"},
		{name: "narrowed, and the user name may be user and session", text: quserHeader + " john   doe   rdp-tcp#3    1  Active    .  29-9-2026 08:00\n", wantErr: "not a row"},
		{name: "narrowed, with two numbers that could be the ID", text: quserHeader + " john 12       console    1  Active  2  29-9-2026 08:00\n", wantErr: "not a row"},
		{name: "an ID twice", text: quserHeader + strings.Repeat(" rick                  console             1  Active          .  29-9-2026 08:00\n", 2), wantErr: "second row"},
		{name: "a huge line", text: quserHeader + strings.Repeat(" 1 ", 1<<10) + "\n", wantErr: "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wintext.ParseQuser(tt.text)
			check(t, got, err, tt.want, tt.wantErr)
		})
	}
}

func TestParseQwinsta(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []wintext.Row
		wantErr    string
	}{
		{
			name: "2003, the console was displaced and a session has no name",
			text: qwinstaHeader +
				"                                             0  Disc    rdpwd\n" +
				" console                                     5  Conn    wdcon\n" +
				"                   user1                    1  Disc    rdpwd\n",
			want: []wintext.Row{
				{ID: 0, State: sessions.StateDisconnected, StateText: "Disc", Type: "rdpwd"},
				{SessionName: "console", ID: 5, State: sessions.StateConnected, StateText: "Conn", Type: "wdcon"},
				{User: "user1", ID: 1, State: sessions.StateDisconnected, StateText: "Disc", Type: "rdpwd"},
			},
		},
		{
			name: "French counters, with a blank before the colon",
			text: qwinstaHeader + " console                                     5  Conn\n" +
				"Nombre total de sessions créées : 5\n",
			want: []wintext.Row{{SessionName: "console", ID: 5, State: sessions.StateConnected, StateText: "Conn"}},
		},
		{name: "a row after the counters", text: qwinstaHeader + " console                                     5  Conn\nTotal: 5\n console                                     6  Conn\n", wantErr: "after the counters"},
		{name: "a name between the two columns", text: qwinstaHeader + "           somebody                          5  Disc\n", wantErr: "not a row"},
		{
			name: "a user name with blanks and a number, as printed",
			text: qwinstaHeader + " rdp-tcp#1         room 5  x                 3  Active\n",
			want: []wintext.Row{{SessionName: "rdp-tcp#1", User: "room 5  x", ID: 3, State: sessions.StateActive, StateText: "Active"}},
		},
		{name: "the same, narrowed", text: qwinstaHeader + " rdp-tcp#1         room 5  x           3  Active\n", wantErr: "not a row"},
		{name: "counters only", text: qwinstaHeader + "Total sessions created: 5\n", wantErr: "not a row"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wintext.ParseQwinsta(tt.text)
			check(t, got, err, tt.want, tt.wantErr)
		})
	}
}

func check(t *testing.T, got []wintext.Row, err error, want []wintext.Row, wantErr string) {
	t.Helper()
	if wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Fatalf("error %v, want one with %q (rows %+v)", err, wantErr, got)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseError(t *testing.T) {
	for _, tt := range []struct {
		stderr string
		code   int
		ok     bool
	}{
		{"Error 0x00000005 enumerating sessionnames\r\nError [5]:Access is denied.\r\n", 5, true},
		{"Error 0x000006BA enumerating sessionnames", 1722, true},
		{"Error [1825]:A security package specific error occurred.", 1825, true},
		{"Ошибка [5]:Отказано в доступе", 5, true},
		{"Could not logoff session ID 0 from session Console, Error code 5", 5, true},
		{"Could not logoff session ID 7 from session Console, Error code 5\nError [5]: Access is denied.", 5, true},
		{"No User exists for *", 0, false},
		{"'quser' is not recognized as an internal or external command,", 0, false},
		{"session 5 does not exist", 0, false},
		{"Error [0]:The operation completed successfully.", 0, false},
		{"Error [99999999999]:", 0, false},
		{"", 0, false},
	} {
		if code, ok := wintext.ParseError(tt.stderr); code != tt.code || ok != tt.ok {
			t.Errorf("ParseError(%q) = %d, %v, want %d, %v", tt.stderr, code, ok, tt.code, tt.ok)
		}
	}
}

// Every message of the captured file has a code, except those about users.
func TestCapturedErrors(t *testing.T) {
	for _, msg := range strings.Split(sample(t, "testdata/error-en-stderr-1.txt"), "\n\n") {
		_, ok := wintext.ParseError(msg)
		if want := !strings.HasPrefix(msg, "No User exists"); ok != want {
			t.Errorf("ParseError(%q): ok %v, want %v", msg, ok, want)
		}
		if got, want := wintext.NoUsers(msg), msg == "No User exists for *"; got != want {
			t.Errorf("NoUsers(%q) = %v, want %v", msg, got, want)
		}
	}
	if de := sample(t, "testdata/error-de-stderr-1.txt"); !wintext.NoUsers(de) {
		t.Errorf("NoUsers(%q) = false", de)
	}
}

func TestNoUsersIsNotGuessed(t *testing.T) {
	for _, stderr := range []string{"", "Aucun utilisateur", "No User exists for bob", "No User exists for *\nError [5]:Access is denied."} {
		if wintext.NoUsers(stderr) {
			t.Errorf("NoUsers(%q) = true", stderr)
		}
	}
	if !wintext.NoUsers("No User exists for *\r\n") {
		t.Error("line end")
	}
}

func TestMerge(t *testing.T) {
	const (
		active = sessions.StateActive
		disc   = sessions.StateDisconnected
	)
	listener := wintext.Row{SessionName: "rdp-tcp", ID: 65536, State: sessions.StateListen}
	quserRow := func(user string, id int, s sessions.State) wintext.Row {
		return wintext.Row{User: user, ID: id, State: s, Idle: time.Hour, HasIdle: true, IdleText: "1:00", LogonText: "today 9:00"}
	}
	for _, tt := range []struct {
		name           string
		quser, qwinsta []wintext.Row
		want           []wintext.Row
		wantErr        string
	}{
		{
			name:    "idle and logon from quser, the rest from qwinsta",
			quser:   []wintext.Row{quserRow("anna", 3, disc)},
			qwinsta: []wintext.Row{{User: "Anna", ID: 3, State: disc}, listener},
			want:    []wintext.Row{{User: "Anna", ID: 3, State: disc, Idle: time.Hour, HasIdle: true, IdleText: "1:00", LogonText: "today 9:00"}, listener},
		},
		{
			name:    "disconnected between the two: the idle time is not that of the disconnect",
			quser:   []wintext.Row{quserRow("anna", 3, active)},
			qwinsta: []wintext.Row{{User: "Anna", ID: 3, State: disc}},
			want:    []wintext.Row{{User: "Anna", ID: 3, State: disc, LogonText: "today 9:00"}},
		},
		{
			name:    "Windows lower-cases the Turkish dotted I to i",
			quser:   []wintext.Row{quserRow("irem", 3, active)},
			qwinsta: []wintext.Row{{User: "İrem", ID: 3, State: active}},
			want:    []wintext.Row{{User: "İrem", ID: 3, State: active, Idle: time.Hour, HasIdle: true, IdleText: "1:00", LogonText: "today 9:00"}},
		},
		{
			name:    "one of them prints the domain",
			quser:   []wintext.Row{quserRow("administrator", 7, active)},
			qwinsta: []wintext.Row{{User: `MYDOMAIN\Administrator`, ID: 7, State: active}},
			want:    []wintext.Row{{User: `MYDOMAIN\Administrator`, ID: 7, State: active, Idle: time.Hour, HasIdle: true, IdleText: "1:00", LogonText: "today 9:00"}},
		},
		{
			name:    "logged on after quser ran",
			qwinsta: []wintext.Row{{User: "Anna", ID: 3, State: active}},
			want:    []wintext.Row{{User: "Anna", ID: 3, State: active}},
		},
		{name: "two users", quser: []wintext.Row{quserRow("bob", 3, disc)}, qwinsta: []wintext.Row{{User: "Anna", ID: 3, State: disc}}, wantErr: `"bob" by quser and to "Anna"`},
		{name: "no user on one side", quser: []wintext.Row{quserRow("bob", 3, disc)}, qwinsta: []wintext.Row{{ID: 3, State: disc}}, wantErr: "belongs to"},
		{name: "gone for qwinsta", quser: []wintext.Row{quserRow("bob", 3, disc)}, qwinsta: []wintext.Row{listener}, wantErr: "qwinsta does not"},
		{name: "twice in quser", quser: []wintext.Row{quserRow("bob", 3, disc), quserRow("bob", 3, disc)}, wantErr: "quser shows session 3 twice"},
		{name: "twice in qwinsta", qwinsta: []wintext.Row{listener, listener}, wantErr: "qwinsta shows session 65536 twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wintext.Merge(tt.quser, tt.qwinsta)
			check(t, got, err, tt.want, tt.wantErr)
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range samples(f, "*.txt") {
		f.Add(sample(f, file))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) ([]wintext.Row, error){wintext.ParseQuser, wintext.ParseQwinsta} {
			rows, err := parse(text)
			if err != nil && len(rows) > 0 {
				t.Fatal("rows beside an error")
			}
			ids := map[int]bool{}
			for _, r := range rows {
				if ids[r.ID] || r.ID < 0 {
					t.Fatalf("ID %d", r.ID)
				}
				ids[r.ID] = true
				if r.State != wintextState(r.StateText) {
					t.Fatalf("the word %q became %v", r.StateText, r.State)
				}
				if r.HasIdle && (r.Idle < 0 || r.Idle > 3651*24*time.Hour || r.Idle%time.Minute != 0) {
					t.Fatalf("idle %q is %v", r.IdleText, r.Idle)
				}
			}
		}
		wintext.ParseError(text)
		wintext.NoUsers(text)
	})
}

// wintextState is the meaning of a word, written down once more by hand.
func wintextState(word string) sessions.State {
	switch word {
	case "Disc", "Getr.", "Déco", "Desc", "Диск", "断开":
		return sessions.StateDisconnected
	case "Active", "Aktiv", "Actif", "Activo", "Attivo", "Ativo", "Активно", "运行中":
		return sessions.StateActive
	case "Conn", "Verb.", "Подключено", "已连接":
		return sessions.StateConnected
	case "Listen", "Abhör.", "Escuchar", "Прием", "侦听":
		return sessions.StateListen
	case "Down":
		return sessions.StateDown
	case "ConnQ":
		return sessions.StateConnectQuery
	case "Idle":
		return sessions.StateIdle
	case "Shadow":
		return sessions.StateShadow
	case "Init":
		return sessions.StateInit
	case "Reset":
		return sessions.StateReset
	}
	return sessions.StateUnknown
}
