// Package wintext reads and writes the text of quser.exe and qwinsta.exe, the
// session listings of Windows ("query user", "query session"), in any language.
//
// The tools print columns for people: padded by display cells (a CJK ideograph
// counts two), without quotes or separators, in the words, dates and widths of
// the host's language and version. The package knows the printf formats behind
// them and undoes those: a row is taken when exactly one reading of it prints
// as the very same text. Rows whose padding was changed are still read where
// their words allow only one reading. Everything else is an error: a session
// listing is never guessed, because sessions are logged off by it.
//
// State words are known only for languages of which a real listing was seen
// (see Locales); any other word is sessions.StateUnknown. Header words are not
// needed and not looked at.
//
// The package does no I/O beyond the writers given to it and keeps no state.
package wintext
