// Package soak holds tests that let whole farms work for hours and check at
// every step that nobody is wronged. It has no code of its own beside them;
// package memnet in it is the network that they run on.
package soak
