// Package sessions holds the words of the farm: hosts, accounts, sessions and
// their states, what one host reported, and the farm at one moment.
//
// Everything here is a value. The package does no I/O, keeps no clock and
// draws no random numbers: time comes in as an argument, so that a decision
// over these values can be repeated and explained.
package sessions
