// Package auth says who may do what at the broker's admin surface, and finds out
// who somebody is: by the Unix socket they came through, by a password and the
// cookie that it earns, by a machine's token, or by what a trusted proxy in front
// says of them.
//
// Every address that is served is a Route with the least Role that it asks for;
// Guard lets nobody past without it.
package auth
