// Package rdpserver is a minimal RDP server: enough of [MS-RDPBCGR] for real
// clients to log in over TLS, to be shown a picture, to be told why they cannot
// stay, or to be sent elsewhere.
//
// A connection runs through three calls. Handshake takes it from the first
// packet to the Client Info PDU, which names the user in full; nothing has been
// promised to the client by then. Activate (licence, capabilities) gives the
// client its desktop, and Draw fills it. Run reads what the client sends until
// it leaves. ErrorInfo, Status and Redirect may be called at any time after
// Handshake.
//
//	conn, err := rdpserver.Handshake(ctx, nc, rdpserver.Config{TLS: tlsConfig})
//	if err != nil {
//		return err // nc is closed
//	}
//	defer conn.Close()
//	if err := conn.Activate(ctx); err != nil {
//		return err
//	}
//	if err := conn.Draw(picture, image.Point{}); err != nil {
//		return err
//	}
//	return conn.Run(ctx, func(e rdpserver.Event) { … })
//
// What it leaves out: standard RDP security, CredSSP (see Security), bitmap
// compression, drawing orders, the graphics pipeline, UDP, resizing, and every
// virtual channel (their data is read and dropped).
//
// Everything that a client sends is hostile until parsed: sizes are bounded
// before anything is allocated for them, and every wait has a deadline.
package rdpserver
