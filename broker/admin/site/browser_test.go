package site_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/rdpbroker/rdpbroker/broker/admin"
	"github.com/rdpbroker/rdpbroker/broker/admin/admintest"
	"github.com/rdpbroker/rdpbroker/broker/audit"
	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

// browser starts a headless Chromium for the test. Screenshots go to the folder
// that SCREENSHOTS names, if any.
func browser(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium; see deploy/install-test-peers.sh")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1400, 1000), chromedp.WSURLReadTimeout(time.Minute))
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel2 := chromedp.NewContext(alloc)
	t.Cleanup(cancel2)
	ctx, cancel3 := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel3)
	if err := chromedp.Run(ctx); err != nil { // the browser lives as long as the context of its first run
		t.Fatal(err)
	}
	return ctx
}

// do runs actions; each must come true in time.
func do(ctx context.Context, t *testing.T, what string, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		var text string
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = chromedp.Run(late, chromedp.Evaluate("document.body.innerText", &text))
		t.Fatalf("%s: %v; the page says\n%s", what, err, text)
	}
}

// says waits until what a selector finds says text.
func says(selector, text string) chromedp.Action {
	return truly(fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.innerText.includes(%q))", selector, text))
}

// truly waits until an expression is true. Without an interval it would be looked
// at with each frame only, and a page at rest draws none.
func truly(expression string) chromedp.Action {
	return chromedp.Poll(expression, nil, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(50*time.Second))
}

func shoot(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	do(ctx, t, "a screenshot", chromedp.FullScreenshot(&png, 90))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Error(err)
	}
}

func logIn(ctx context.Context, t *testing.T, b *broker, name, password string) {
	t.Helper()
	do(ctx, t, "logging in", chromedp.Navigate(b.URL+"/"), chromedp.WaitVisible("#name"),
		chromedp.SetValue("#name", name), chromedp.SetValue("#password", password), chromedp.Click("button[type=submit]"))
}

// office is a farm of an ordinary afternoon, which can be changed.
type office struct {
	mu sync.Mutex
	st admin.Status
}

func (o *office) status() admin.Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.st
	st.Now = time.Now()
	return st
}

func (o *office) change(f func(st *admin.Status)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(&o.st)
}

// afternoon is that farm: hosts hosts with up to slots sessions each.
func afternoon(hosts, slots int) *office {
	now := time.Now()
	names := []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"}
	all := []sessions.HostState{{Host: sessions.Host{Name: "lab1", Farm: "lab", Addr: "lab1:3389"}}}
	for i := range hosts {
		h := sessions.HostState{
			Host:     sessions.Host{Name: fmt.Sprintf("ts%d", i+1), Farm: "office", Addr: fmt.Sprintf("ts%d:3389", i+1), Slots: slots},
			FreshFor: 24 * time.Hour,
			Report:   &sessions.Report{ReadAt: now, HostTime: now, Source: "agent", CountsDisconnected: sessions.Yes, OS: "Windows Server 2022"},
		}
		for j := range slots - 1 - i%2 {
			s := sessions.Session{
				ID: j + 2, Account: sessions.Account{Domain: "CONTOSO", User: names[(i+j*3)%len(names)]}, State: sessions.StateActive,
				LogonAt: now.Add(-time.Duration(i+j*50+20) * time.Minute), ClientName: fmt.Sprintf("PC-%03d", i*7+j),
			}
			if (i+j)%3 == 1 {
				s.State, s.DisconnectedAt = sessions.StateDisconnected, now.Add(-time.Duration(17+i*40+j*9)*time.Minute)
			}
			h.Report.Sessions = append(h.Report.Sessions, s)
		}
		switch {
		case i%8 == 2:
			h.Host.Draining = true
		case i%8 == 3:
			h.Report, h.Problem = nil, "ts4:5986: connection refused; is WinRM switched on there?"
		case i%8 == 1:
			h.Report.Warnings = []string{"A policy of the host ends disconnected sessions after 1h: users lose work without the broker."}
		}
		all = append(all, h)
	}
	st := admin.Status{
		Version: "1.4.0", StartedAt: now.Add(-50 * time.Hour), Snapshot: sessions.NewSnapshot(all),
		Farms: []admin.Farm{{Name: "office", Mode: "shadow"}, {Name: "lab", Mode: "off"}},
		Reservations: []admin.Reservation{
			{ID: 7, Farm: "office", Host: "ts1", Kind: placement.Place, MadeAt: now, ExpiresAt: now.Add(time.Minute)},
		},
		Waiting: []admin.Waiting{{Farm: "office", Identity: sessions.Identity{Confidence: sessions.ConfidenceName, Said: "walter", Accounts: []sessions.Account{{Domain: "CONTOSO", User: "walter"}}, Client: admintest.Client7}, Since: now.Add(-12 * time.Second), Reason: "all slots are taken; shadow mode would have logged off CONTOSO\\bob"}},
	}
	return &office{st: st}
}

func decided(who string) audit.Record {
	e, err := admintest.Explain(admin.Question{User: who, Farm: "office"})
	if err != nil {
		panic(err)
	}
	r := audit.Record{Time: time.Now(), Event: audit.Decided, Farm: "office", Identity: e.Identity, Decision: e.Decision}
	r.Identity.Accounts = []sessions.Account{{Domain: "CONTOSO", User: who}}
	r.Identity.Client = admintest.Client7
	return r
}

// TestThePage clicks and reads as an operator does.
func TestThePage(t *testing.T) {
	ctx := browser(t)
	b := start(t)
	o := afternoon(5, 4)
	b.state.StatusFunc = o.status
	for _, r := range []audit.Record{
		{Time: time.Now().Add(-40 * time.Minute), Event: audit.DrainSet, By: "anna (password)", Host: "ts3", Setting: "on"},
		{Time: time.Now().Add(-9 * time.Minute), Event: audit.Confirmed, Account: admintest.Alice, Decision: placement.Decision{Host: "ts1"}},
		decided("heidi"),
	} {
		b.record(r)
	}

	logIn(ctx, t, b, "admin", "wrong")
	do(ctx, t, "a wrong password", chromedp.WaitVisible("[role=alert]"), says("[role=alert]", "nobody with this name and password"))
	shoot(ctx, t, "login")
	logIn(ctx, t, b, "admin", password)
	do(ctx, t, "the page", chromedp.WaitVisible("#h-ts1"), says("#link", "live"), says("#h-ts1", "CONTOSO\\alice"), says("#waiting", "walter"),
		says("#records", "gets a slot that is made free"), says("#h-ts4", "is WinRM switched on"), says(".tile", "of 20 slots"))
	shoot(ctx, t, "light")

	// The picture says in words what it shows.
	var label string
	do(ctx, t, "the label", chromedp.AttributeValue("#h-ts1 .slots", "aria-label", &label, nil))
	if label != "4 of 4 slots used: 2 active, 1 disconnected, 1 reserved" {
		t.Errorf("the slots of ts1 are %q", label)
	}
	// Why a decision was made.
	do(ctx, t, "why", chromedp.Click("#records .record details summary"), says("#records .chosen", "disconnected for 3h12m0s"))

	// What changes, changes here; what was focused stays so.
	do(ctx, t, "focus", chromedp.Focus(`#h-ts1 [data-action="drain"]`))
	o.change(func(st *admin.Status) {
		h := *st.Snapshot.Host("ts1")
		report := *h.Report
		report.Sessions = append([]sessions.Session{}, report.Sessions...)
		report.Sessions[0].Account.User = "zoe"
		h.Report = &report
		all := append([]sessions.HostState{}, st.Snapshot.Hosts...)
		for i := range all {
			if all[i].Host.Name == "ts1" {
				all[i] = h
			}
		}
		st.Snapshot, st.Waiting = sessions.NewSnapshot(all), nil
	})
	b.record(decided("mallory"))
	do(ctx, t, "a change", says("#h-ts1", "CONTOSO\\zoe"), says("#waiting", "Nobody waits"), says("#records li:first-child", "mallory"),
		truly(`document.activeElement.dataset.action === "drain" && document.activeElement.closest(".host").id === "h-ts1"`))

	// Each action asks once, says what will happen, and is somebody's.
	type step struct {
		click, title, fill, want string
	}
	for _, s := range []step{
		{`#h-ts1 [data-action="drain"]`, "Drain ts1?", "", "admin (password) drains ts1: true"},
		{`#h-ts3 [data-action="undrain"]`, "Undrain ts3?", "", "admin (password) drains ts3: false"},
		{`#h-ts1 [data-action="message-host"]`, "Message to everybody on ts1", "Restart at 6", "admin (password) tells ts1/2: Restart at 6"},
		{`#h-ts1 [data-action="keep"]`, "Keep the session of CONTOSO\\zoe?", "", "admin (password) keeps ts1/2 for 8h0m0s"},
		{`#h-ts1 [data-action="logoff"]`, "Log off CONTOSO\\dave?", "", "admin (password) logs off ts1/3"},
		{`[data-action="reload"]`, "Reload the configuration?", "", "admin (password) reloads, dry: false"},
	} {
		b.asked()
		do(ctx, t, s.title, chromedp.Click(s.click), says("#dialog[open] h2", s.title))
		if s.fill != "" {
			do(ctx, t, s.title, chromedp.SendKeys("#dialog textarea", s.fill))
		}
		if s.title == "Log off CONTOSO\\dave?" {
			shoot(ctx, t, "dialog")
		}
		if did := strings.Join(b.asked(), ""); did != "" && !strings.Contains(did, "dry: true") {
			t.Errorf("%s: done before it was meant: %s", s.title, did)
		}
		do(ctx, t, s.title, chromedp.Click("#dialog-yes"), chromedp.WaitVisible(".toast"))
		deadline, did := time.Now().Add(20*time.Second), ""
		for !strings.Contains(did, s.want) && time.Now().Before(deadline) {
			did += strings.Join(b.asked(), "; ")
			time.Sleep(20 * time.Millisecond)
		}
		if !strings.Contains(did, s.want) {
			t.Errorf("%s: the broker did %q, want %q", s.title, did, s.want)
		}
		do(ctx, t, s.title, chromedp.Evaluate(`document.querySelectorAll(".toast").forEach((x) => x.remove())`, nil))
	}
	// Whoever says no, by the keyboard, changes nothing.
	do(ctx, t, "escape", chromedp.Click(`#h-ts1 [data-action="drain"]`), chromedp.WaitVisible("#dialog"), chromedp.KeyEvent(kb.Escape), chromedp.WaitNotVisible("#dialog"))
	do(ctx, t, "eviction", chromedp.Evaluate(`{ const e = document.querySelector("#eviction"); e.value = "off"; e.dispatchEvent(new Event("change")); } 0`, nil),
		says("#dialog[open] p", "Nobody will be logged off in any farm"))
	do(ctx, t, "eviction, yes", chromedp.Click("#dialog-yes"))
	do(ctx, t, "eviction, told", says(".toast", "Nobody is logged off"))
	if did := strings.Join(b.asked(), "; "); did != `admin (password) sets eviction "off"` {
		t.Errorf("the broker did %q", did)
	}

	// Found by the keyboard; explained.
	do(ctx, t, "finding", chromedp.Evaluate("document.activeElement.blur()", nil), chromedp.KeyEvent("/"),
		truly(`document.activeElement.id === "filter"`), chromedp.Evaluate(`document.querySelector("#filter").value = ""`, nil), chromedp.KeyEvent("zoe"), // a synthetic "/" is typed, too
		truly(`[...document.querySelectorAll(".host")].filter((h) => !h.hidden).map((h) => h.id).join() === "h-ts1"`),
		chromedp.Evaluate(`{ const f = document.querySelector("#filter"); f.value = ""; f.dispatchEvent(new Event("input")); } 0`, nil))
	do(ctx, t, "explaining", chromedp.Evaluate(`document.querySelector("#explain [name=farm]").value = "office"`, nil), chromedp.SendKeys("#explain [name=user]", "alice"), chromedp.Click("#explain button"),
		says("#explained", "make-room on ts1"), says("#explained .chosen", "disconnected for 3h12m0s"))

	do(ctx, t, "dark", chromedp.ActionFunc(func(ctx context.Context) error {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}).Do(ctx)
	}))
	shoot(ctx, t, "dark")
	do(ctx, t, "a phone", chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	var wide bool
	do(ctx, t, "the width", chromedp.Evaluate("document.documentElement.scrollWidth > window.innerWidth", &wide))
	if wide {
		t.Error("on a phone the page is wider than the screen")
	}
	shoot(ctx, t, "phone")
}

// TestAViewersPage shows everything and offers nothing.
func TestAViewersPage(t *testing.T) {
	ctx := browser(t)
	b := start(t)
	b.state.StatusFunc = afternoon(3, 3).status
	logIn(ctx, t, b, "viewer", password)
	var offered int
	do(ctx, t, "the page", chromedp.WaitVisible("#h-ts1"), says("#h-ts1", "alice"),
		chromedp.Evaluate(`[...document.querySelectorAll("[data-action]")].filter((e) => e.offsetParent).length`, &offered))
	if offered > 0 {
		t.Errorf("a viewer is offered %d actions", offered)
	}
	do(ctx, t, "logging out", chromedp.Click("[data-logout] button"), chromedp.WaitVisible("#password"))
}

// TestAThousandHosts: the page is there soon, scrolls, and is kept up to date
// without one long task after another.
func TestAThousandHosts(t *testing.T) {
	ctx := browser(t)
	b := start(t)
	o := afternoon(1000, 20)
	b.state.StatusFunc = o.status
	logIn(ctx, t, b, "admin", password)
	began := time.Now()
	do(ctx, t, "the page", chromedp.WaitVisible("#h-ts1"), says("#link", "live"))
	loaded := time.Since(began)
	var rows, elements int
	var longest float64
	do(ctx, t, "the rows", chromedp.Evaluate(`document.querySelectorAll(".host").length`, &rows), chromedp.Evaluate(`document.querySelectorAll("*").length`, &elements),
		chromedp.Evaluate(`window.longest = 0; new PerformanceObserver((l) => { for (const e of l.getEntries()) window.longest = Math.max(window.longest, e.duration) }).observe({ type: "longtask" }); 0`, nil))
	if rows != 1001 {
		t.Errorf("%d hosts are shown", rows)
	}
	for round := range 5 { // fifty hosts change, again and again
		o.change(func(st *admin.Status) {
			all := append([]sessions.HostState{}, st.Snapshot.Hosts...)
			for i := range all {
				if i%20 == round && all[i].Report != nil {
					r := *all[i].Report
					r.Sessions = r.Sessions[:len(r.Sessions)-1]
					all[i].Report = &r
				}
			}
			st.Snapshot = sessions.NewSnapshot(all)
		})
		do(ctx, t, "scrolling", chromedp.Evaluate(fmt.Sprintf("window.scrollTo(0, document.body.scrollHeight * %d / 5)", round+1), nil), chromedp.Sleep(1100*time.Millisecond))
	}
	do(ctx, t, "opening a host", chromedp.ScrollIntoView("#h-ts501"), chromedp.Evaluate(`document.querySelector("#h-ts501 summary").click()`, nil), says("#h-ts501", "CONTOSO\\"))
	do(ctx, t, "finding a user", chromedp.SendKeys("#filter", "judy"), says("#found", "judy"), chromedp.Evaluate("window.longest", &longest))
	shoot(ctx, t, "thousand")
	t.Logf("1,000 hosts, %d elements: there after %v, the longest task %.0f ms", elements, loaded.Round(time.Millisecond), longest)
}
