package winrm

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rdpbroker/rdpbroker/sessions"
)

// shellInfo is a shell as the host lists it.
type shellInfo struct {
	ID         string `xml:"ShellId"`
	Resource   string `xml:"ResourceUri"`
	Owner      string `xml:"Owner"`
	Idle       string `xml:"IdleTimeOut"`
	Inactivity string `xml:"ShellInactivity"`
}

// orphanAfter is how long nobody must have used a shell of ours before it is
// taken for left behind. One that is in use is asked for output every
// maxOperation at least, whoever uses it: another broker's are safe.
const orphanAfter = maxOperation + 25*time.Second

// isOrphan reports whether s is a shell that a broker opened as user and uses no
// more. What marks it as a broker's is its odd IdleTimeOut, which all versions of
// Windows show; a name they do not all take.
func (s shellInfo) isOrphan(user string) bool {
	idle, ok := parseDuration(s.Idle)
	if !ok || idle != idleTimeout || s.Resource != shellResource {
		return false
	}
	if !strings.EqualFold(sessions.ParseAccount(s.Owner).User, sessions.ParseAccount(user).User) {
		return false
	}
	inactive, ok := parseDuration(s.Inactivity)
	_, err := checkID(s.ID)
	return ok && inactive >= orphanAfter && err == nil
}

// listShells lists the shells that the account may see.
func (c *client) listShells(ctx context.Context) ([]shellInfo, error) {
	e, err := c.post(ctx, enumerateMessage(c.target.url, c.operation), true)
	if err != nil {
		return nil, fmt.Errorf("list shells: %w", err)
	}
	list := e.Body.Enumerated.Shells
	const most = 20 // pulls: nobody has that many shells
	for range most {
		if e.Body.Enumerated.Context == "" || e.Body.Enumerated.End != nil {
			return list, nil
		}
		if !contextPattern.MatchString(e.Body.Enumerated.Context) {
			return nil, fmt.Errorf("list shells: the host answered with the context %q", excerpt(e.Body.Enumerated.Context))
		}
		if e, err = c.post(ctx, pullMessage(c.target.url, e.Body.Enumerated.Context, c.operation), false); err != nil {
			return nil, fmt.Errorf("list shells: %w", err)
		}
		e.Body.Enumerated = e.Body.Pulled
		list = append(list, e.Body.Enumerated.Shells...)
	}
	return list, nil
}

// contextPattern is what an enumeration's context looks like; it goes back into
// a request.
var contextPattern = regexp.MustCompile(`^[0-9A-Za-z:-]{1,100}$`)

var durationPattern = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// parseDuration reads an xs:duration of days and less.
func parseDuration(s string) (time.Duration, bool) {
	m := durationPattern.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, false
	}
	var seconds float64
	for i, unit := range []float64{86400, 3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil || n > 1e9 {
			return 0, false
		}
		seconds += n * unit
	}
	return time.Duration(seconds*1000+0.5) * time.Millisecond, true
}
