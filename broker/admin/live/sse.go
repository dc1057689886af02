package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// pace is the shortest time from one write to a reader to the next: in a storm of
	// events a reader costs a few writes a second, and gets many events with each.
	pace = 200 * time.Millisecond
	// heartbeat is the longest time without a write, so that both ends notice when
	// the other is gone.
	heartbeat = 15 * time.Second
	// writeLimit is how long a reader may take over one write. Whoever is slower is
	// cut, and may come back from where it was.
	writeLimit = 10 * time.Second
)

// Serve streams the hub's events to one client as server-sent events (the HTML
// standard, section 9.2), beginning behind the one that the client names in
// Last-Event-ID, else behind from. It returns when the client is gone or
// too slow, or the request's context ends. A client that missed events gets an
// event "missed" with their number. The error is ErrFull if nothing was sent.
func Serve(w http.ResponseWriter, r *http.Request, h *Hub, from uint64) error {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if n, err := strconv.ParseUint(id, 10, 64); err == nil {
			from = n
		}
	}
	reader, err := h.Read(from)
	if err != nil {
		return err
	}
	defer reader.Close()
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("X-Accel-Buffering", "no") // for a proxy in front
	send := func(b []byte) bool {
		if err := rc.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		if _, err := w.Write(b); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return nil
	}
	tick := time.NewTimer(pace)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(r.Context(), heartbeat)
		events, missed, err := reader.Next(ctx)
		cancel()
		var out bytes.Buffer
		switch {
		case r.Context().Err() != nil:
			return nil
		case err != nil:
			out.WriteString(": still here\n\n")
		}
		if missed > 0 {
			fmt.Fprintf(&out, "event: missed\ndata: %d\n\n", missed)
		}
		for _, e := range events {
			writeEvent(&out, e)
		}
		if !send(out.Bytes()) {
			return nil
		}
		tick.Reset(pace)
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return nil
		}
	}
}

// writeEvent writes one event; each line of its data becomes a data line.
func writeEvent(out *bytes.Buffer, e Event) {
	fmt.Fprintf(out, "id: %d\nevent: %s\n", e.Seq, e.Kind)
	for line := range bytes.Lines(e.Data()) {
		out.WriteString("data: ")
		out.Write(bytes.TrimRight(line, "\r\n"))
		out.WriteByte('\n')
	}
	out.WriteByte('\n')
}
