package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/rdpbroker/rdpbroker/broker/audit"
)

// maxEvent bounds one line of the stream, in bytes.
const maxEvent = 8 << 20

// Event is one event of the broker's stream.
type Event struct {
	// Seq is its number, to go on from.
	Seq uint64
	// Missed is how many events were missed before this one; then there is no Record.
	Missed uint64
	Record audit.Record
}

// Events calls each for everything that is decided and done behind the event after
// (0: all that the broker still knows), until ctx or the stream ends; the error
// says why.
func (c *Client) Events(ctx context.Context, after uint64, each func(Event)) error {
	query := url.Values{"after": {strconv.FormatUint(after, 10)}}
	res, err := c.send(ctx, http.MethodGet, "events", query, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return read(res, "events", nil)
	}
	in := bufio.NewScanner(res.Body)
	in.Buffer(nil, maxEvent)
	var e Event
	kind, data := "", ""
	for in.Scan() {
		field, value, _ := strings.Cut(in.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.Seq, _ = strconv.ParseUint(value, 10, 64) // what is no number is 0
		case "event":
			kind = value
		case "data":
			data += value
		case "":
			if in.Text() != "" || data == "" {
				continue // a comment, or nothing was said
			}
			if err := e.fill(kind, data); err != nil {
				return err
			}
			each(e)
			e, kind, data = Event{}, "", ""
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case in.Err() != nil:
		return fmt.Errorf("reading the broker's events: %w", in.Err())
	}
	return fmt.Errorf("reading the broker's events: %w", io.ErrUnexpectedEOF)
}

func (e *Event) fill(kind, data string) (err error) {
	if kind == "missed" {
		e.Missed, err = strconv.ParseUint(data, 10, 64)
	} else {
		err = json.Unmarshal([]byte(data), &e.Record)
	}
	if err != nil {
		return fmt.Errorf("reading the broker's events: %w", err)
	}
	return nil
}
