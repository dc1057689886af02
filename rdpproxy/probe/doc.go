// SPDX-License-Identifier: GPL-3.0-only

// Package probe is an RDP client that proves that a logon reaches a desktop.
//
// It walks the connection sequence of [MS-RDPBCGR] 1.3.1.1 as a user's client
// would, one step after the other in one goroutine, and says how far it came,
// how long each step took, and what the host objected to:
//
//	tcp → x224 → tls → nla → mcs → licence → active → picture → logon
//
// A picture alone proves nothing: a host that refuses a password paints that
// too. So a probe has succeeded only when there is a picture and the host has
// said that the user is logged on; Logon tells the ways in which hosts say so.
//
// NTLM comes from github.com/tomatome/grdp. The rest of that library is not
// used: its layers run by themselves, drop errors and slow-path pictures, know
// only version 2 of CredSSP, and leave no way to bound a wait; most of it needs
// cgo; and its image decoder lacks 24 bits per pixel. What grdp does to hostile
// input is contained: a panic in it becomes an error of the probe.
//
// Everything here is under the GPL, see LICENSE; rdpprobe alone may import it.
package probe
