package sessions

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"strings"
)

// index is what a Snapshot knows of its hosts without looking through them: who
// has a session where, and which hosts have free slots. It is immutable. Of a
// change on one host only that host's part is made anew, and what it touches:
// a farm of 1,000 hosts changes 50 times a second, and is asked in between.
type index struct {
	byName map[string]int
	hosts  []hostIndex // beside Snapshot.Hosts
	users  userIndex
	farms  map[string]*farmIndex
	// domains are those of accounts with a session, with on how many hosts.
	domains map[string]int
}

// hostIndex is one host's part.
type hostIndex struct {
	counted int
	domains []string // of accounts with a session, each once
	refs    []Ref    // beside Report.Sessions
	users   []Ref    // of those that have a user
	// ascending: refs are in the order of their IDs, each ID once, as hosts list them.
	ascending bool
}

// find is where r is among the host's sessions, -1 if it is not there.
func (x *hostIndex) find(r *Ref) int {
	if x.ascending {
		j := sort.Search(len(x.refs), func(j int) bool { return x.refs[j].ID >= r.ID })
		if j < len(x.refs) && x.refs[j] == *r {
			return j
		}
		return -1
	}
	return slices.Index(x.refs, *r)
}

// farmIndex are a farm's hosts, as positions in Snapshot.Hosts.
type farmIndex struct {
	size int
	// free are those that have a slot which no session holds, in each Order; of equal
	// ones the first by name comes first.
	free [orders][]int
}

// Order is one in which a farm's hosts with free slots are kept.
type Order uint8

// The orders. Sessions are those that hold a slot (HostState.Counted).
const (
	BySessions Order = iota // the fewest sessions first
	ByShare                 // the fewest sessions per Host.Share first
	ByFree                  // the fewest free slots first
	orders
)

// compare orders host a before b: below zero if a comes first.
func (o Order) compare(a, b *HostState, countedA, countedB int) int {
	switch o {
	case ByShare:
		return cmp.Compare(countedA*b.Host.Share(), countedB*a.Host.Share())
	case ByFree:
		return cmp.Compare(a.Limit()-countedA, b.Limit()-countedB)
	}
	return cmp.Compare(countedA, countedB)
}

func newHostIndex(h *HostState) hostIndex {
	if h.Report == nil {
		return hostIndex{}
	}
	x := hostIndex{refs: make([]Ref, len(h.Report.Sessions)), users: make([]Ref, 0, len(h.Report.Sessions)), ascending: true}
	for i, s := range h.Report.Sessions {
		x.refs[i] = RefOf(h.Host.Name, s)
		if i > 0 && x.refs[i].ID <= x.refs[i-1].ID {
			x.ascending = false
		}
		if s.HasUser() {
			x.users = append(x.users, x.refs[i])
			if !slices.Contains(x.domains, s.Account.Domain) {
				x.domains = append(x.domains, s.Account.Domain)
			}
		}
		if h.Counted(s) {
			x.counted++
		}
	}
	x.users = slices.Clip(x.users)
	slices.Sort(x.domains)
	return x
}

// newIndex is the index of hosts, which are sorted by name.
func newIndex(hosts []HostState) *index {
	x := &index{
		byName: make(map[string]int, len(hosts)),
		hosts:  make([]hostIndex, len(hosts)),
		farms:  map[string]*farmIndex{},

		domains: map[string]int{},
	}
	var entries []userEntry
	for i := range hosts {
		h := &hosts[i]
		x.byName[h.Host.Name] = i
		x.hosts[i] = newHostIndex(h)
		for _, d := range x.hosts[i].domains {
			x.domains[d]++
		}
		entries = appendUsers(entries, i, h.Report)
		f := x.farms[h.Host.Farm]
		if f == nil {
			f = &farmIndex{}
			x.farms[h.Host.Farm] = f
		}
		f.size++
		if h.Limit() > x.hosts[i].counted {
			for o := range f.free {
				f.free[o] = append(f.free[o], i)
			}
		}
	}
	for _, f := range x.farms {
		for o := range f.free {
			slices.SortStableFunc(f.free[o], func(a, b int) int {
				return Order(o).compare(&hosts[a], &hosts[b], x.hosts[a].counted, x.hosts[b].counted)
			})
		}
	}
	x.users = newUserIndex(entries)
	return x
}

// with is the index of hosts, which is before's but for the host at i.
func (x *index) with(before, hosts []HostState, i int) *index {
	next := *x // byName stays: the hosts are the same ones
	next.hosts = slices.Clone(x.hosts)
	next.hosts[i] = newHostIndex(&hosts[i])
	if !slices.Equal(next.hosts[i].domains, x.hosts[i].domains) {
		next.domains = maps.Clone(x.domains)
		for _, d := range next.hosts[i].domains {
			next.domains[d]++
		}
		for _, d := range x.hosts[i].domains {
			if next.domains[d]--; next.domains[d] == 0 {
				delete(next.domains, d)
			}
		}
	}
	next.users = x.users.replaced(appendUsers(nil, i, before[i].Report), appendUsers(nil, i, hosts[i].Report))
	free := hosts[i].Limit() - next.hosts[i].counted
	if free == before[i].Limit()-x.hosts[i].counted && next.hosts[i].counted == x.hosts[i].counted && hosts[i].Host.Share() == before[i].Host.Share() {
		return &next
	}
	name := hosts[i].Host.Farm
	f := &farmIndex{size: x.farms[name].size}
	for o := range f.free {
		f.free[o] = slices.DeleteFunc(slices.Clone(x.farms[name].free[o]), func(at int) bool { return at == i })
		if free <= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(f.free[o], i, func(a, b int) int {
			if c := Order(o).compare(&hosts[a], &hosts[b], next.hosts[a].counted, next.hosts[b].counted); c != 0 {
				return c
			}
			return a - b
		})
		f.free[o] = slices.Insert(f.free[o], at, i)
	}
	next.farms = maps.Clone(x.farms)
	next.farms[name] = f
	return &next
}

// userEntry says that an account has a session on the host at that position.
type userEntry struct {
	key     string // FoldUser of the account's user
	host    int
	account Account // as the host writes it
}

func (a userEntry) compare(b userEntry) int {
	if c := strings.Compare(a.key, b.key); c != 0 {
		return c
	}
	if a.host != b.host {
		return a.host - b.host
	}
	if c := strings.Compare(a.account.User, b.account.User); c != 0 {
		return c
	}
	return strings.Compare(a.account.Domain, b.account.Domain)
}

// appendUsers adds the accounts of r's sessions, each once and in order.
func appendUsers(es []userEntry, host int, r *Report) []userEntry {
	if r == nil {
		return es
	}
	first := len(es)
	for i := range r.Sessions {
		if s := &r.Sessions[i]; s.HasUser() {
			es = append(es, userEntry{FoldUser(s.Account.User), host, s.Account})
		}
	}
	slices.SortFunc(es[first:], userEntry.compare)
	return es[:first+len(slices.Compact(es[first:]))]
}

// userIndex are the entries of all hosts in order, in pieces that several
// snapshots share: a session more copies one of them.
type userIndex struct{ pieces [][]userEntry }

// fullPiece is the most entries of a piece. Copying one costs about a microsecond.
const fullPiece = 128

func newUserIndex(es []userEntry) userIndex {
	slices.SortFunc(es, userEntry.compare)
	return userIndex{slices.Collect(slices.Chunk(es, fullPiece/2))}
}

// replaced is u without the entries of before that are not in after, and with
// those of after that are not in before. Both are in order.
func (u userIndex) replaced(before, after []userEntry) userIndex {
	if slices.Equal(before, after) { // somebody's state changed, and nobody came or went
		return u
	}
	next := userIndex{slices.Clone(u.pieces)}
	for len(before) > 0 || len(after) > 0 {
		var c int
		switch {
		case len(after) == 0:
			c = -1
		case len(before) == 0:
			c = 1
		default:
			c = before[0].compare(after[0])
		}
		if c < 0 {
			next.remove(before[0])
		}
		if c > 0 {
			next.insert(after[0])
		}
		if c <= 0 {
			before = before[1:]
		}
		if c >= 0 {
			after = after[1:]
		}
	}
	return next
}

// piece is the number of the piece that e belongs to.
func (u *userIndex) piece(e userEntry) int {
	n, found := slices.BinarySearchFunc(u.pieces, e, func(p []userEntry, e userEntry) int { return p[0].compare(e) })
	if found {
		return n
	}
	return max(0, n-1)
}

func (u *userIndex) insert(e userEntry) {
	if len(u.pieces) == 0 {
		u.pieces = [][]userEntry{{e}}
		return
	}
	n := u.piece(e)
	at, _ := slices.BinarySearchFunc(u.pieces[n], e, userEntry.compare)
	p := slices.Concat(u.pieces[n][:at], []userEntry{e}, u.pieces[n][at:]) // the old one is shared
	if len(p) <= fullPiece {
		u.pieces[n] = p
		return
	}
	half := len(p) / 2
	u.pieces[n] = slices.Clip(p[:half])
	u.pieces = slices.Insert(u.pieces, n+1, slices.Clone(p[half:]))
}

func (u *userIndex) remove(e userEntry) {
	n := u.piece(e)
	at, _ := slices.BinarySearchFunc(u.pieces[n], e, userEntry.compare)
	if len(u.pieces[n]) == 1 {
		u.pieces = slices.Delete(u.pieces, n, n+1)
		return
	}
	u.pieces[n] = slices.Concat(u.pieces[n][:at], u.pieces[n][at+1:])
}

// from calls yield with the entries whose key is FoldUser(user) or comes after it,
// in order, until it returns false.
func (u userIndex) from(user string, yield func(*userEntry) bool) {
	n := sort.Search(len(u.pieces), func(n int) bool { return compareFolded(u.pieces[n][0].key, user) >= 0 })
	n = max(0, n-1) // the piece before may end with such entries
	at := 0
	if n < len(u.pieces) {
		at = sort.Search(len(u.pieces[n]), func(i int) bool { return compareFolded(u.pieces[n][i].key, user) >= 0 })
	}
	for ; n < len(u.pieces); n, at = n+1, 0 {
		for i := at; i < len(u.pieces[n]); i++ {
			if !yield(&u.pieces[n][i]) {
				return
			}
		}
	}
}
