// Package abuse holds tests that let strangers connect in great numbers, under
// names and with tokens that they have found or made up, to a broker that may log
// sessions off: nobody loses a session by it, other users hardly notice, and the
// broker's memory stays what it was. It has no code of its own beside them.
package abuse
