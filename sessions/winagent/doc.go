// Package winagent knows the sessions of a Windows host exactly and live, and
// logs them off, disconnects them and writes to their users safely, through an
// agent that runs on the host: one C# class (agent*.cs) that is sent over and compiled by PowerShell when the broker
// connects. Nothing is installed and nothing stays.
//
// The package knows how to start that agent, what it says and what it can be
// told; how bytes get to the host and back is a Transport's business. The agent
// prints JSON lines in ASCII:
//
//	hello    protocol version, who it is, as whom and with which rights it runs
//	state    all sessions and the facts of the host; at the start and on every change
//	work     programs, processor time and I/O of sessions, as far as they have changed
//	beat     nothing has changed, with the hash of the last state; to whom has asked,
//	         with the last inputs that have
//	pong     the answer to a ping
//	logoff   what became of a logoff: refused, going, gone, stuck
//	disconnect, message    done, or refused
//	error    a Windows function that failed, with its Win32 code
//	cannot   the host cannot run the agent, and why
//	bye      it ends, and why
//
// The agent reads its sessions again when Windows signals an event
// (WTSWaitSystemEvent) and every five seconds. It ends by itself when it has
// not heard from the broker for a while or when its standard input closes. Where a
// host refuses standard input, the class comes by an environment variable instead,
// the agent takes no commands, and each order is done by another one that is
// started for it, under the same mutex of the host.
//
// A user can have their own session kept: by the value Keep of
// HKEY_CURRENT_USER\Software\rdpbroker, which the agent reads; see
// sessions.KeepUntil for what it may say.
package winagent
