// Package tsts is the driver for Windows hosts without WinRM: it speaks the
// Terminal Services RPC ([MS-TSTS]), as "query session /server:X" and "reset
// session N /server:X" do. Nothing runs on the host for it.
//
// Interfaces, all over SMB 2 or 3 (TCP 445) and named pipes:
//
//   - TermSrvEnumeration and TermSrvSession (\PIPE\LSM_API_service) list the
//     sessions, with their times to 100 ns, log one off, disconnect one, and show
//     its user a message;
//   - IcaApi, the legacy interface (\PIPE\Ctx_WinStation_API_service), tells the
//     host's own clock, which the others do not, and is spoken alone where those
//     are missing (Windows Server 2008 and before);
//   - TermSrvNotification, or RpcWinStationWaitSystemEvent of the legacy
//     interface, reports that something has changed. What it reports is not
//     looked at: it wakes a reading, behind which stands the poll.
//
// Calls are authenticated by NTLM or Kerberos and always sealed
// (RPC_C_AUTHN_LEVEL_PKT_PRIVACY), and SMB messages signed. There is no way to
// do with less. Answers count only if their signature is right, see internal/rpc.
//
// An account without the right to query a session does not see it, and is not
// told ([MS-TSTS] RpcGetEnumResult). A listing that shows neither a listener nor
// session 0 is therefore an error and never an empty host. The account needs the
// Query right on all sessions, and to evict also Logoff (Reset for the legacy
// interface), to disconnect Disconnect, and to send messages Message; a local
// administrator's token may be filtered over the network.
//
// # What no Windows host has confirmed
//
// All of it. The tests speak to a server that is made of the same library's stubs,
// over TCP with NTLM, over TCP with Kerberos tickets of an MIT KDC, and, with
// NTLM, over the SMB sessions, signatures and pipes of a real Samba smbd. SMB with
// Kerberos is not tested. Known from the specification and from other people's
// tools only:
//
//   - which codes Windows returns (errors.go lists those that have been seen);
//   - that RpcWaitAsyncNotification answers when something happens, as documented;
//   - that the legacy interface of a recent host tells its time for session 0;
//   - whether RpcLogoff returns before the logoff is through (either is provided for);
//   - whether a fault in a sealed connection is itself sealed: if so, the
//     connection is made anew.
//
// Windows Server 2003 offers its pipes over SMB 1 only, which the library does not
// speak: such hosts cannot be reached, though their interface is known here.
package tsts
