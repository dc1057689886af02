// Package sshlink reaches hosts over ssh as a broker has to: a host whose key is
// not the one in known_hosts is not talked to, a host that falls silent is
// noticed, every wait ends, a connection that broke is made again when it is next
// needed, and a refused password or key is not offered again and again.
//
// A [Link] knows one host. [Link.Session] opens sessions on one connection that is
// kept; [Link.Connect] makes a connection of the caller's own.
package sshlink
