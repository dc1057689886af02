package config

import (
	"runtime"
	"time"

	"github.com/rdpbroker/rdpbroker/broker/audit"
)

// Everything that holds where broker.yaml leaves a key out stands in this file.
// What is not here is zero: empty, no, none.

// presets are the defaults of the whole file on the operating system goos.
func presets(goos string) fileKeys {
	keys := fileKeys{
		Admin: adminKeys{Socket: "/run/rdpbroker/admin.sock", Metrics: "127.0.0.1:9839"},
		Log:   logKeys{Level: "info", Format: "json"},
		Audit: auditKeys{
			File:   "/var/log/rdpbroker/audit.jsonl",
			Rotate: rotateKeys{Size: 64 << 20, Age: 30 * 24 * time.Hour, Keep: 365 * 24 * time.Hour, Compress: true},
			Webhook: webhookKeys{
				Events:  []event{event(audit.Evicted), event(audit.EvictionStuck), event(audit.EvictionFailed)},
				Timeout: 5 * time.Second, Tries: 5,
				Undelivered: "/var/lib/rdpbroker/webhook-undelivered.jsonl",
			},
		},
		StateFile: "/var/lib/rdpbroker/state.json",
		Limits: limitKeys{
			Connections: 10000, PerClient: 100,
			Pending: 2000, PendingPerClient: 50,
			FirstPacket: 10 * time.Second,
			Dial:        5 * time.Second,
		},
		DrainTimeout: 8 * time.Hour,
		// A client that vanished shows after 25 s, and its session as disconnected.
		KeepAlive: keepAliveKeys{Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		Defaults: defaultKeys{
			WinRM: winrmKeys{Auth: "ntlm", Mode: "auto", Poll: 15 * time.Second, Timeout: 20 * time.Second, Processes: 30 * time.Second},
			SSH:   winsshKeys{Timeout: 20 * time.Second, Processes: 30 * time.Second},
			RPC:   rpcKeys{Auth: "ntlm", Poll: 5 * time.Second, Timeout: 20 * time.Second},
			XRDP:  xrdpKeys{Poll: 5 * time.Second, Timeout: 20 * time.Second},
		},
		Eviction: evictionKeys{
			Mode: "shadow", Proof: "credentials", WithoutNLA: "known-user",
			MinDisconnected: 15 * time.Minute,
			PerHostPerHour:  6, PerClientPerHour: 4,
			Hours:            hoursKeys{Timezone: "Local"},
			BusyCPU:          2,          // percent: what a desktop without work stays below
			BusyIO:           128 * 1024, // a megabit per second
			IdleWarning:      2 * time.Minute,
			HonourKeepMarker: true, KeepMarkerMax: 24 * time.Hour,
			SoftLimit: time.Minute, HardLimit: 5 * time.Minute,
		},
		Identity: identityKeys{Remember: rememberKeys{Entries: 10000, For: 30 * 24 * time.Hour}},
	}
	if goos == "windows" {
		// Windows has Unix sockets too, since Server 2019. There is no default on
		// TCP: any local user could connect to it, and there are no passwords.
		keys.Admin.Socket = `C:\ProgramData\rdpbroker\admin.sock`
		keys.Audit.File = `C:\ProgramData\rdpbroker\audit.jsonl`
		keys.Audit.Webhook.Undelivered = `C:\ProgramData\rdpbroker\webhook-undelivered.jsonl`
		keys.StateFile = `C:\ProgramData\rdpbroker\state.json`
	}
	return keys
}

func (f *farmKeys) preset() {
	*f = farmKeys{
		Balance: "least-sessions", TakeOverActive: true, Wait: 30 * time.Second,
		Reservation: 90 * time.Second, ReservationsPerClient: 16,
	}
}

func (h *hostKeys) preset() {
	*h = hostKeys{CountDisconnected: "auto", Weight: 1}
}

// defaultPorts are what an address without a port means.
const (
	portRDP        = 3389
	portSSH        = 22
	portSMB        = 445
	portWinRMHTTPS = 5986
	portWinRMHTTP  = 5985
)

// DefaultAuditFile is audit.file where a file leaves it out.
func DefaultAuditFile() string { return presets(runtime.GOOS).Audit.File }

// DefaultSocket is admin.socket where a file leaves it out.
func DefaultSocket() string { return presets(runtime.GOOS).Admin.Socket }
