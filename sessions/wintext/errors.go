package wintext

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	// "Error [5]:Access is denied.", "Ошибка [5]:Отказано в доступе".
	bracketError = regexp.MustCompile(`(?m)^\s*\S+ \[(\d{1,10})\]:`)
	// "Error 0x000006BA enumerating sessionnames".
	hexError = regexp.MustCompile(`(?m)^\s*\S+ 0x([0-9A-Fa-f]{8})\b`)
	// "Could not logoff session ID 0 from session Console, Error code 5".
	codeError = regexp.MustCompile(`(?m), Error code (\d{1,10})\s*$`)
)

// ParseError finds the Win32 error code in what a session tool printed on its
// standard error: 5 for access denied, 1722 for an RPC server that does not
// answer. The forms "Error [5]:", with the word in any language, "Error
// 0x00000005" and "…, Error code 5" are known. ok is false if there is none.
func ParseError(stderr string) (code int, ok bool) {
	if m := bracketError.FindStringSubmatch(stderr); m != nil {
		return parseCode(m[1], 10)
	}
	if m := hexError.FindStringSubmatch(stderr); m != nil {
		return parseCode(m[1], 16)
	}
	if m := codeError.FindStringSubmatch(stderr); m != nil {
		return parseCode(m[1], 10)
	}
	return 0, false
}

func parseCode(digits string, base int) (int, bool) {
	n, err := strconv.ParseUint(digits, base, 32)
	return int(n), err == nil && n != 0
}

// noUsers are quser's words for "nobody is logged on", as far as captured.
var noUsers = []string{
	"No User exists for *",
	"Kein Benutzer vorhanden für *",
}

// NoUsers reports whether quser said, and said nothing else, that nobody is
// logged on. Text in another language is not "no users": it may be any error.
func NoUsers(stderr string) bool {
	text := strings.TrimSpace(strings.ReplaceAll(stderr, "\x00", ""))
	for _, known := range noUsers {
		if text == known {
			return true
		}
	}
	return false
}
