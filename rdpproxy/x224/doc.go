// Package x224 reads and writes the first packets of an RDP connection: the
// preconnection blob of [MS-RDPEPS] 2.2.1, the X.224 Connection Request of
// [MS-RDPBCGR] 2.2.1.1 with its cookie, routing token and negotiation data,
// and the Connection Confirm of [MS-RDPBCGR] 2.2.1.2.
//
// It is a codec: it sets no deadlines, keeps no state and never reads a byte
// beyond the packet it was asked for. What it returns was written by whoever
// could reach the port and must be treated so.
//
// It is generous where clients are known to be sloppy, because the host that
// gets the packet unchanged is the judge of it, and strict where a length
// could make it wait, allocate or misread.
package x224
