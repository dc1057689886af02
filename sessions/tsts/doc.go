// Package tsts is the driver for Windows hosts without WinRM: it speaks the
// Terminal Services RPC ([MS-TSTS]), as "query session /server:X" and "reset
// session N /server:X" do. Nothing runs on the host for it.
//
// Interfaces, all over SMB 2 or 3 (TCP 445) and named pipes:
//
//   - TermSrvEnumeration and TermSrvSession (\PIPE\LSM_API_service) list the
//     sessions, with their times to 100 ns, and log one off;
//   - IcaApi, the legacy interface (\PIPE\Ctx_WinStation_API_service), tells the
//     host's own clock, which the others do not, and is spoken alone where those
//     are missing (Windows Server 2008 and before);
//   - TermSrvNotification, or RpcWinStationWaitSystemEvent of the legacy
//     interface, reports that something has changed. What it reports is not
//     looked at: it wakes a reading, behind which stands the poll.
//
// Calls are authenticated by NTLM or Kerberos and always sealed
// (RPC_C_AUTHN_LEVEL_PKT_PRIVACY); SMB messages are signed. There is no way to
// do with less. Answers count only if their signature is right, see internal/rpc.
//
// An account without the right to query a session does not see it, and is not
// told ([MS-TSTS] RpcGetEnumResult). A listing that shows neither a listener nor
// session 0 is therefore an error and never an empty host. The account needs the
// Query right on all sessions, and to evict also Logoff (Reset for the legacy
// interface); a local administrator's token may be filtered over the network.
//
// # What no real host has confirmed
//
// The tests speak to a server that runs the same library's server stubs over
// ncacn_ip_tcp on loopback, with NTLM. Not tested against anything: SMB and its
// pipes, Kerberos, which codes Windows returns for a session that is gone, whether
// RpcWaitAsyncNotification answers as documented, whether RpcLogoff returns before
// the logoff is through (either way is provided for). Windows Server 2003 offers
// its pipes over SMB 1 only, which the library does not speak: such hosts cannot
// be reached, though their interface is known here.
package tsts
