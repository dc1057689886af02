package wintext

import (
	"strings"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// Locale is a display language of Windows, as far as its listings were seen.
type Locale struct {
	// Name is the language, "de" or "zh-CN".
	Name string

	quser, qwinsta string // header lines; "" where none was captured

	states map[sessions.State]string
	// none is quser's "no idle time" with the padding that it was translated
	// with: it is printed as it is, without a column width, and so moves the
	// logon time. "" where none was captured.
	none string
	// date is the host's short date and time, as a layout of package time.
	date string
}

const (
	quserEnglish   = " USERNAME              SESSIONNAME        ID  STATE   IDLE TIME  LOGON TIME"
	qwinstaEnglish = " SESSIONNAME       USERNAME                 ID  STATE   TYPE        DEVICE"
	wideEnglish    = " SESSIONNAME               USERNAME                 ID  STATE   TYPE        DEVICE "
)

// locales holds only what captures of real hosts show, except the French
// "Déco", which comes from another project's test data. Polish, Dutch, Korean,
// Turkish, Czech and Swedish have none. A word missing here reads as
// sessions.StateUnknown, which is safe; a word guessed here might evict somebody.
var locales = []Locale{
	{
		Name: "en", quser: quserEnglish, qwinsta: qwinstaEnglish,
		states: map[sessions.State]string{
			sessions.StateActive: "Active", sessions.StateDisconnected: "Disc", sessions.StateConnected: "Conn",
			sessions.StateListen: "Listen", sessions.StateConnectQuery: "ConnQ", sessions.StateShadow: "Shadow",
			sessions.StateIdle: "Idle", sessions.StateReset: "Reset", sessions.StateDown: "Down", sessions.StateInit: "Init",
		},
		none: "    none   ", date: "1/2/2006 3:04 PM",
	},
	{
		Name:    "de",
		quser:   " BENUTZERNAME          SITZUNGSNAME       ID  STATUS  LEERLAUF   ANMELDEZEIT",
		qwinsta: " SITZUNGSNAME      BENUTZERNAME             ID  STATUS  TYP         GERÄT",
		states: map[sessions.State]string{
			sessions.StateActive: "Aktiv", sessions.StateDisconnected: "Getr.",
			sessions.StateConnected: "Verb.", sessions.StateListen: "Abhör.",
		},
		none: "    Kein   ", date: "02.01.2006 15:04",
	},
	{
		Name:   "fr",
		quser:  " UTILISATEUR           SESSION            ID  ÉTAT    TEMPS INACT TEMPS SESSION",
		states: map[sessions.State]string{sessions.StateActive: "Actif", sessions.StateDisconnected: "Déco"},
		none:   "    aucun   ", date: "02/01/2006 15:04",
	},
	{
		Name:    "es",
		quser:   " NOMBRE USUARIO        NOMBRE SESIÓN      ID. ESTADO  TIEMPO IN. TIEMPO SESIÓN",
		qwinsta: " NOMBRE DE SESIÓN  NOMBRE DE USUARIO        ID  ESTADO    TIPO   DISPOSITIVO",
		states: map[sessions.State]string{
			sessions.StateActive: "Activo", sessions.StateDisconnected: "Desc",
			sessions.StateConnected: "Conn", sessions.StateListen: "Escuchar",
		},
		none: "  ninguno   ", date: "2/1/2006 15:04",
	},
	{
		Name:   "it",
		quser:  " NOMEUTENTE            NOMESESSIONE       ID  STATO   INATTIVITÀ ACCESSO",
		states: map[sessions.State]string{sessions.StateActive: "Attivo", sessions.StateDisconnected: "Disc"},
		date:   "02/01/2006 15:04",
	},
	{
		Name: "pt-BR", quser: quserEnglish,
		states: map[sessions.State]string{sessions.StateActive: "Ativo"},
		none:   "    nenhum   ", date: "02/01/2006 15:04",
	},
	{
		Name:    "ru",
		quser:   " ПОЛЬЗОВАТЕЛЬ          СЕАНС              ID  СТАТУС  БЕЗДЕЙСТВ. ВРЕМЯ ВХОДА",
		qwinsta: " СЕАНС             ПОЛЬЗОВАТЕЛЬ             ID  СТАТУС  ТИП         УСТР-ВО",
		states: map[sessions.State]string{
			sessions.StateActive: "Активно", sessions.StateDisconnected: "Диск",
			sessions.StateConnected: "Подключено", sessions.StateListen: "Прием",
		},
		none: " отсутствует ", date: "02.01.2006 15:04",
	},
	{
		Name:    "zh-CN",
		quser:   " 用户名                会话名             ID  状态    空闲时间   登录时间",
		qwinsta: " 会话名            用户名                   ID  状态    类型        设备",
		states: map[sessions.State]string{
			sessions.StateActive: "运行中", sessions.StateDisconnected: "断开",
			sessions.StateConnected: "已连接", sessions.StateListen: "侦听",
		},
		none: "    无     ", date: "2006/1/2 15:04",
	},
	{
		// A Japanese header with English state words.
		Name:    "ja",
		qwinsta: " セッション名      ユーザー名               ID  状態    種類        デバイス",
		states: map[sessions.State]string{
			sessions.StateActive: "Active", sessions.StateDisconnected: "Disc",
			sessions.StateConnected: "Conn", sessions.StateListen: "Listen",
		},
		date: "2006/01/02 15:04",
	},
}

// stateOf is the state that a word means, StateUnknown if no captured language
// has it. Words are compared exactly: a garbled word is an unknown word.
func stateOf(word string) sessions.State {
	for _, l := range locales {
		for state, w := range l.states {
			if w == word {
				return state
			}
		}
	}
	return sessions.StateUnknown
}

// isNone reports whether word stands in quser's idle column for "no idle time".
func isNone(word string) bool {
	for _, l := range locales {
		if l.none != "" && strings.TrimSpace(l.none) == word {
			return true
		}
	}
	return false
}
