package simhost

import (
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
)

// encodingOf is the encoding of a Windows code page; ok is false if the host
// does not have that page.
func encodingOf(page int) (e encoding.Encoding, ok bool) {
	e, ok = map[int]encoding.Encoding{
		437: charmap.CodePage437, 850: charmap.CodePage850, 852: charmap.CodePage852, 855: charmap.CodePage855,
		858: charmap.CodePage858, 860: charmap.CodePage860, 862: charmap.CodePage862, 863: charmap.CodePage863,
		865: charmap.CodePage865, 866: charmap.CodePage866, 1250: charmap.Windows1250, 1251: charmap.Windows1251,
		1252: charmap.Windows1252, 1253: charmap.Windows1253, 1254: charmap.Windows1254, 1255: charmap.Windows1255,
		1256: charmap.Windows1256, 1257: charmap.Windows1257, 1258: charmap.Windows1258,
		932: japanese.ShiftJIS, 936: simplifiedchinese.GBK, 949: korean.EUCKR, 950: traditionalchinese.Big5,
		65001: unicode.UTF8,
	}[page]
	return e, ok
}

// encoderOf turns text into the bytes that a console of that code page writes:
// what the page does not have becomes a question mark.
func encoderOf(page int) func(string) []byte {
	e, ok := encodingOf(page)
	if !ok {
		e = charmap.CodePage437
	}
	return func(s string) []byte {
		enc := e.NewEncoder()
		b := make([]byte, 0, len(s))
		for _, r := range s {
			if r < utf8.RuneSelf { // which all of them have in common
				b = append(b, byte(r))
				continue
			}
			one, err := enc.String(string(r))
			if err != nil {
				one = "?"
				enc.Reset()
			}
			b = append(b, one...)
		}
		return b
	}
}
