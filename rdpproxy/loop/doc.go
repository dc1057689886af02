// Package loop relays connections on Linux from a few threads: one loop per core
// waits for all descriptors at once (epoll) and moves what has come. It does what
// package relay does with two goroutines for each connection, by the same rules
// (relaytest is the contract of both), and an idle connection costs nothing but its
// two sockets and a struct of less than 300 bytes: no goroutine, no buffer, no pipe.
//
// The rooms in here:
//
//	engine   the loops, which of them takes a connection, their beginning and end
//	loop     one loop: events, work that others post to it, its clock
//	wait     how a loop waits: as cheap as possible while busy, not at all while idle
//	table    who is behind a descriptor, and generations, since numbers are used again
//	wheel    deadlines, of which most never come
//	pool     buffers and pipes, taken while bytes are in hand and given back
//	pair     two connected sockets and the states that they pass through
//	step     one direction: copy, splice, hold back, drain
//	watch    whoever sees the bytes at the beginning
//
// All of a loop's state belongs to its own goroutine. From elsewhere one may call
// what its comment says, above all Loop.Post.
package loop
