// Package tlswatch tells from the headers of TLS records whether an RDP host has
// accepted its client's password. It ends no TLS, has no keys and reads no content
// but the two hello messages, which are in plain text. It is pure: bytes in,
// verdict out.
//
// It speaks only of connections for which the host has chosen CredSSP (HYBRID or
// HYBRID_EX) in its Connection Confirm. There the password is checked before the
// session begins, and two records of the host follow only upon a good one:
//
//   - 4 bytes: the Early User Authorization Result, [MS-RDPBCGR] 2.2.10.2, which
//     the host sends under HYBRID_EX once it has decrypted the credentials;
//   - 11 bytes: the MCS Attach User Confirm, [MS-RDPBCGR] 2.2.1.7, which it sends
//     once it has taken the MCS Connect Initial that follows them.
//
// No other record that a host sends after the TLS handshake has one of these
// sizes: a TSRequest with something in it has 12 bytes or more ([MS-CSSP] 2.2.1),
// a TLS alert 2, a KeyUpdate 5, a session ticket dozens.
//
// What the client sends proves nothing, since anybody can send anything. Its hello
// is read for one purpose, to give up: it could ask the host to cut its records to
// a size of the client's choice. For the rest, its records are looked at after the
// host has accepted, to tell a client that goes on from one that leaves.
package tlswatch
