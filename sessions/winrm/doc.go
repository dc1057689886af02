// Package winrm is the driver for Windows hosts over WinRM (WS-Management,
// [MS-WSMV]). It lists the sessions of one host and logs disconnected ones off.
//
// There are two ways (Config.Mode). The better one keeps one remote shell open in
// which an agent runs (package winagent), and gets a report with every change.
// The other one, for hosts that cannot run it, runs quser.exe and qwinsta.exe,
// each in a remote shell of its own, and joins what they print (package
// wintext). Text has limits that the report admits: times of one minute's
// resolution, no session limit, no domain names.
//
// The SOAP requests are built with github.com/masterzen/winrm/soap. That
// library's client is not used: it takes faults for success, falls back to
// Basic authentication, sends requests before it is authenticated and cannot
// cancel one. Here each WS-Management fault, each HTTP status but 200 and each
// timeout is an error; a request ends when its context does; a password is
// offered once, and never again after it was refused.
package winrm
