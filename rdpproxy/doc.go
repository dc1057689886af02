// Package rdpproxy accepts RDP connections, reads who is calling and where to,
// asks a Router for a host, and relays bytes between the two.
//
// It knows bytes and addresses, never users or sessions, and it does not end
// TLS: what a client and a host agree on stays between them. Of the bytes it
// reads only the first packet, which it sends on unchanged, and a preconnection
// blob in front of it, which is meant for a broker and goes no further.
//
//	p := rdpproxy.New(rdpproxy.Config{Listener: "main"}, router, rdpproxy.Observer{}, log)
//	err := p.Serve(ctx, ln)       // accepts until ctx ends
//	err = p.Shutdown(drainCtx)    // then lets connections end until drainCtx ends
//
// On Linux a few threads serve all connections (package loop): one that is idle
// costs no goroutine, no buffer and no pipe. What has to wait for something else
// than a socket is done by a goroutine, above all a Route that is not found at once
// (PromptRouter), and the relay goes back to a loop. Elsewhere, and with
// Config.Portable, goroutines do it all (package relay).
//
// A connection passes through these steps, each with a limit in Config: it is
// accepted and counted, its first packet is awaited (opening), the Router is
// asked (routing), the host is dialled (dialling), bytes are relayed (relaying).
package rdpproxy
