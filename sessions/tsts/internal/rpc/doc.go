// Package rpc calls DCE/RPC interfaces over one connection: bind, sealed
// requests, sealed answers ([C706], [MS-RPCE]).
//
// The stubs, the marshalling and the security providers are those of
// github.com/oiweiwei/go-msrpc. Its own connection is not used, because with
// NTLM it does not compare the signatures of answers (whoever sits on the line
// could turn a bit of a sealed answer unseen), ends waits with timers of its own
// and decodes in goroutines, where a hostile answer that makes it panic ends the
// whole process. Here an answer counts only if its signature is right, each call
// ends with its context, and decoding happens in the caller's goroutine.
package rpc
