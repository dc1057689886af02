// Package winagent knows the sessions of a Windows host exactly and live, and
// logs them off safely, through an agent that runs on the host: one C# class
// (agent.cs) that is sent over and compiled by PowerShell when the broker
// connects. Nothing is installed and nothing stays.
//
// The package knows how to start that agent, what it says and what it can be
// told; how bytes get to the host and back is a Transport's business. The agent
// prints JSON lines in ASCII:
//
//	hello    protocol version, who it is, as whom and with which rights it runs
//	state    all sessions and the facts of the host; at the start and on every change
//	beat     nothing has changed, with the hash of the last state
//	pong     the answer to a ping
//	logoff   what became of a logoff: refused, going, gone, stuck
//	error    a Windows function that failed, with its Win32 code
//	cannot   the host cannot run the agent, and why
//	bye      it ends, and why
//
// The agent reads its sessions again when Windows signals an event
// (WTSWaitSystemEvent) and every five seconds. It ends by itself when it has
// not heard from the broker for a while or when its standard input closes.
package winagent
