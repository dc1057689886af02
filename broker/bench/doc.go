// Package bench compares the broker with HAProxy, and with no proxy at all, on the
// same work in the same run: see make bench. Linux only.
package bench
