package daemon

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/config"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// reloadFor reads the configuration anew for the operator by, or with dryRun only
// tells what that would change.
func (d *Daemon) reloadFor(_ context.Context, by string, dryRun bool) (admin.Changes, error) {
	next, err := d.opts.ReadConfig()
	if dryRun {
		if err != nil {
			return admin.Changes{}, &admin.ConflictError{Why: err.Error()}
		}
		return d.changes(next), nil
	}
	var out admin.Changes
	if err == nil {
		out = d.changes(next) // what it would be afterwards is too late to tell
	}
	if err := d.reloadBy(by, next, err); err != nil {
		return admin.Changes{}, &admin.ConflictError{Why: "nothing was changed: " + err.Error()}
	}
	out.Applied = true
	return out, nil
}

// changes are what next would change, the gravest first.
func (d *Daemon) changes(next *config.Config) admin.Changes {
	c := comparison{snapshot: d.Snapshot(), was: hostsOf(d.config()), now: hostsOf(next)}
	for _, key := range d.needRestart(next) {
		c.tell(admin.ChangeRestart, "%s has changed since the start: that needs a restart to take effect", key)
	}
	c.farms(d.config(), next)
	c.hosts()
	was := d.config()
	for _, part := range []struct {
		name     string
		was, now any
	}{
		{"identity", was.Identity, next.Identity}, {"limits", was.Limits, next.Limits},
		{"keep_alive", was.KeepAlive, next.KeepAlive}, {"drain_timeout", was.DrainTimeout, next.DrainTimeout},
	} {
		c.fields(part.name, reflect.ValueOf(part.was), reflect.ValueOf(part.now))
	}
	for _, w := range next.Warnings {
		c.tell(admin.ChangeWarning, "%s", w)
	}
	order := []string{admin.ChangeLost, admin.ChangeRestart, admin.Changed, admin.ChangeGained, admin.ChangeWarning}
	slices.SortStableFunc(c.out.Changes, func(a, b admin.Change) int {
		return cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind))
	})
	return c.out
}

// comparison finds out what is different between two configurations.
type comparison struct {
	snapshot *sessions.Snapshot
	was, now map[string]config.Host
	out      admin.Changes
}

func hostsOf(cfg *config.Config) map[string]config.Host {
	out := map[string]config.Host{}
	for _, f := range cfg.Farms {
		for _, h := range f.Hosts {
			out[h.Name] = h
		}
	}
	return out
}

func (c *comparison) tell(kind, format string, args ...any) {
	c.out.Changes = append(c.out.Changes, admin.Change{Kind: kind, What: fmt.Sprintf(format, args...)})
}

func (c *comparison) farms(was, next *config.Config) {
	for _, f := range was.Farms {
		n := next.Farm(f.Name)
		if n == nil {
			c.tell(admin.ChangeLost, "farm %s is gone", f.Name)
			continue
		}
		a, b := f, *n
		a.Hosts, b.Hosts = nil, nil
		c.fields("farm "+f.Name, reflect.ValueOf(a), reflect.ValueOf(b))
	}
	for _, f := range next.Farms {
		if was.Farm(f.Name) == nil {
			c.tell(admin.ChangeGained, "farm %s is new, with %d hosts", f.Name, len(f.Hosts))
		}
	}
}

func (c *comparison) hosts() {
	names := map[string]bool{}
	for _, hosts := range []map[string]config.Host{c.was, c.now} {
		for name := range hosts {
			names[name] = true
		}
	}
	for _, name := range sorted(names) {
		was, had := c.was[name]
		now, has := c.now[name]
		a, b := c.slots(was), c.slots(now)
		switch {
		case !has:
			c.out.Slots -= a
			c.tell(admin.ChangeLost, "host %s of farm %s is gone, with %s%s", name, was.Farm, slotCount(a), c.users(name))
		case !had:
			c.out.Slots += b
			c.tell(admin.ChangeGained, "host %s of farm %s is new, with %s", name, now.Farm, slotCount(b))
		default:
			c.out.Slots += b - a
			c.host(was, now, a, b)
		}
	}
}

// host compares a host that is there before and after, with a and b slots.
func (c *comparison) host(was, now config.Host, a, b int) {
	name := now.Name
	if a != b {
		kind := admin.ChangeGained
		if b < a {
			kind = admin.ChangeLost
		}
		c.tell(kind, "host %s has %s instead of %d", name, slotCount(b), a)
	}
	if was.Farm != now.Farm {
		c.tell(admin.ChangeLost, "host %s moves from farm %s to farm %s%s", name, was.Farm, now.Farm, c.users(name))
	}
	if was.Addr != now.Addr {
		c.tell(admin.Changed, "host %s is reached at %s instead of %s", name, now.Addr, was.Addr)
	}
	if was.Draining != now.Draining {
		c.tell(admin.Changed, "host %s: drain is %t", name, now.Draining)
	}
	if was.CountDisconnected != now.CountDisconnected {
		c.tell(admin.Changed, "host %s: count_disconnected is %s", name, now.CountDisconnected)
	}
	if was.Weight != now.Weight {
		c.tell(admin.Changed, "host %s: weight is %d instead of %d", name, now.Weight, was.Weight)
	}
	was.Host, now.Host = sessions.Host{}, sessions.Host{}
	if !reflect.DeepEqual(was, now) {
		c.tell(admin.Changed, "host %s is read in another way", name)
	}
}

// slots is how many slots h has, as far as that is known.
func (c *comparison) slots(h config.Host) int {
	if h.Slots > 0 {
		return h.Slots
	}
	if s := c.snapshot.Host(h.Name); s != nil && s.Report != nil {
		return s.Report.Limit
	}
	return 0
}

func slotCount(n int) string {
	switch n {
	case 0:
		return "a number of slots that is not known yet"
	case 1:
		return "1 slot"
	}
	return fmt.Sprintf("%d slots", n)
}

// users says who has a session on the host.
func (c *comparison) users(name string) string {
	h := c.snapshot.Host(name)
	if h == nil || h.Report == nil {
		return ""
	}
	n := 0
	for _, s := range h.Report.Sessions {
		if s.HasUser() {
			n++
		}
	}
	switch n {
	case 0:
		return ""
	case 1:
		return "; 1 user has a session there and will not get back to it"
	}
	return fmt.Sprintf("; %d users have a session there and will not get back to it", n)
}

// fields tells which fields of two structs differ, those of structs within them
// one by one, under the names that they have in broker.yaml.
func (c *comparison) fields(name string, was, now reflect.Value) {
	if reflect.DeepEqual(was.Interface(), now.Interface()) {
		return
	}
	if was.Kind() != reflect.Struct {
		c.tell(admin.Changed, "%s is %s instead of %s", name, short(now), short(was))
		return
	}
	for i := range was.NumField() {
		f := was.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		inner := name
		if f.Type.Kind() != reflect.Struct {
			inner += ": " + snake(f.Name)
		}
		c.fields(inner, was.Field(i), now.Field(i))
	}
}

// short is a value for people; long lists are only counted.
func short(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		if v.Len() > 3 {
			return fmt.Sprintf("a list of %d", v.Len())
		}
	}
	return admin.Clean(fmt.Sprint(v.Interface()), 100)
}

// snake is a Go name as broker.yaml writes it.
func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}
