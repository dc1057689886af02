// Package winssh is the driver for Windows hosts over OpenSSH, which Windows brings
// along as an optional feature since Windows 10 1809 and Windows Server 2019. It
// reads a host and ends its sessions through the same agent as over WinRM (package
// winagent), but is simpler and cheaper: standard input and output are real, and no
// quota counts shells.
//
// Each agent has an ssh connection of its own. So each begins with the rights that
// its account has now, and nothing that one of them hangs in holds another one up.
//
// Whether the host's DefaultShell is cmd.exe, powershell.exe or bash.exe does not
// matter: the agent's command line is the same words in each of them. PowerShell as
// a shell leaves standard input to the agent, because it reads it itself only for
// a command with $input in it.
package winssh
