// Package simhost is a simulated Windows host: a session model with a slot
// limit, the WinRM endpoint through which a broker reads and logs off its
// sessions, and a small RDP server that draws a desktop for whoever logs on.
//
// It exists for the demo, which needs a farm without Windows, and for the tests
// of everything that talks to a host. It therefore behaves like a host where
// behaviour is known (session limits of both kinds, IDs that are reused, the
// console that moves, logoffs that take minutes or never end, output cut in the
// middle of a character), and can be told to misbehave (Faults).
//
// The three parts are a Model, which is state and rules under one mutex with the
// clock passed in; a WinRM handler over the model; and an RDP server over the
// model. A Host joins them.
package simhost
