package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rdpbroker/rdpbroker/broker/placement"
	"github.com/rdpbroker/rdpbroker/sessions"
)

func TestSmallestFileHasTheDefaults(t *testing.T) {
	got, err := parseFile(t, "testdata/good/smallest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listeners: []Listener{{Address: ":3389", Farm: "office"}},
		Admin:     Admin{Socket: "/run/rdpbroker/admin.sock", Metrics: "127.0.0.1:9839"},
		Log:       Log{Level: "info", Format: "json"},
		StateFile: "/var/lib/rdpbroker/state.json",
		Audit: Audit{
			File:   "/var/log/rdpbroker/audit.jsonl",
			Rotate: Rotate{Size: 64 << 20, Age: 720 * time.Hour, Keep: 8760 * time.Hour, Compress: true},
		},
		Limits: Limits{
			Connections: 10000, PerClient: 100, Pending: 2000, PendingPerClient: 50,
			FirstPacket: 10 * time.Second, Dial: 5 * time.Second,
		},
		DrainTimeout: 8 * time.Hour,
		KeepAlive:    KeepAlive{Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		Farms: []Farm{{
			Name: "office",
			Policy: placement.Policy{
				Balance: placement.LeastSessions, TakeOverActive: true,
				Eviction: placement.Eviction{
					Mode: placement.Shadow, Proof: placement.Credentials, MinDisconnected: 15 * time.Minute,
					PerHostPerHour: 6, PerClientPerHour: 4,
					BusyCPU: .02, BusyIO: 131072, IdleWarning: 2 * time.Minute, HonourKeepMark: true, KeepMarkMax: 24 * time.Hour,
				},
			},
			Wait: 30 * time.Second, Reservation: 90 * time.Second, ReservationsPerClient: 16,
			SoftLimit: time.Minute, HardLimit: 5 * time.Minute,
			Hosts: []Host{{
				Host: sessions.Host{Name: "ts1", Farm: "office", Addr: "ts1:3389", Slots: 2, Weight: 1},
				WinRM: &WinRM{
					URL: "https://ts1:5986/wsman", User: "svc", Password: Secret{Env: "SECRET"},
					Auth: "ntlm", Mode: "auto", Poll: 15 * time.Second, Timeout: 20 * time.Second, Processes: 30 * time.Second,
				},
			}},
		}},
		Identity: Identity{RememberEntries: 10000, RememberFor: 720 * time.Hour},
	}
	diff(t, want, got)
}

func TestMerging(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/merged.yaml")
	if err != nil {
		t.Fatal(err)
	}
	diff(t, []Listener{
		{Address: ":3389", Farm: "office"},
		{Address: "127.0.0.1:0", Farm: "office", ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("2001:db8::/32")}},
		{Address: "[::1]:3390", Farm: "linux"},
	}, cfg.Listeners)
	diff(t, Admin{}, cfg.Admin)
	diff(t, "", cfg.Audit.File)

	office := cfg.Farm("office")
	diff(t, placement.Policy{
		Balance: placement.Weighted,
		Pins:    []placement.Pin{{Account: sessions.Account{Domain: "CONTOSO", User: "alice"}, Host: "ts2"}},
		Eviction: placement.Eviction{
			Mode: placement.Evict, Proof: placement.Credentials, RefuseUnproven: true, MinDisconnected: 48 * time.Hour, PerClientPerHour: 4,
			BusyCPU: .02, BusyIO: 131072, IdleWarning: 2 * time.Minute, HonourKeepMark: true, KeepMarkMax: 24 * time.Hour,
			Protect:          []string{"Administrator", "frank", `CONTOSO\adm-?`, "backup*"},
			ProtectProcesses: []string{"setup*.exe", "robocopy.exe"},
		},
	}, office.Policy)
	diff(t, []time.Duration{0, 90 * time.Second, time.Minute, 10 * time.Minute},
		[]time.Duration{office.Wait, office.Reservation, office.SoftLimit, office.HardLimit})
	shared := Secret{Env: "SECRET"}
	folder := filepath.Join("testdata", "good")
	diff(t, []Host{{
		Host: sessions.Host{Name: "ts1", Farm: "office", Addr: "ts1:3389", Slots: 2, Weight: 1},
		WinRM: &WinRM{
			URL: "https://ts1.contoso.example:5986/wsman", User: `CONTOSO\svc`, Password: Secret{File: filepath.Join(folder, "secrets", "ts1")},
			Auth: "basic", Mode: "auto", CAFile: filepath.Join(folder, "ca.pem"), Poll: time.Minute, Timeout: 2 * time.Minute, Processes: 30 * time.Second,
		},
	}, {
		Host: sessions.Host{Name: "ts2", Farm: "office", Addr: "10.0.0.2:3389", Slots: 3, CountDisconnected: sessions.No, Weight: 2, Draining: true},
		WinRM: &WinRM{
			URL: "https://10.0.0.2:5986/wsman", User: `CONTOSO\svc`, Password: shared,
			Auth: "ntlm", Mode: "auto", CAFile: filepath.Join(folder, "ca.pem"), Poll: 15 * time.Second, Timeout: 2 * time.Minute, Processes: 30 * time.Second,
		},
	}, {
		Host: sessions.Host{Name: "ts3", Farm: "office", Addr: "ts3:3389", Slots: 2, CountDisconnected: sessions.Yes, Weight: 1},
		WinRM: &WinRM{
			URL: "http://[::1]:5985/other", User: "other", Password: shared,
			Auth: "ntlm", Mode: "auto", CAFile: filepath.Join(folder, "ca.pem"), Poll: 15 * time.Second, Timeout: 2 * time.Minute,
			TextEviction: true,
		},
	}}, office.Hosts)

	linux := cfg.Farm("linux")
	diff(t, placement.Policy{
		Balance: placement.FillFirst, TakeOverActive: true,
		Eviction: placement.Eviction{
			Mode: placement.Off, MinDisconnected: 48 * time.Hour, PerClientPerHour: 4, Protect: []string{"Administrator"},
			ProtectProcesses: []string{"setup*.exe"},
			BusyCPU:          .02, BusyIO: 131072, IdleWarning: 2 * time.Minute, HonourKeepMark: true, KeepMarkMax: 24 * time.Hour,
		},
	}, linux.Policy)
	known := filepath.Join(folder, "known")
	diff(t, []Host{{
		Host: sessions.Host{Name: "lx1", Farm: "linux", Addr: "lx1:3389", Weight: 1},
		XRDP: &XRDP{
			SSH:  &SSH{Address: "lx1:22", User: "root", KeyFile: "/etc/key", KnownHosts: known},
			Poll: 5 * time.Second, Timeout: 20 * time.Second,
		},
	}, {
		Host: sessions.Host{Name: "lx2", Farm: "linux", Addr: "lx2:3390", Weight: 1},
		XRDP: &XRDP{
			SSH:  &SSH{Address: "jump:2222", User: "bob", KeyFile: "/etc/key", Password: shared, KnownHosts: known},
			Poll: 9 * time.Second, Timeout: 20 * time.Second,
		},
	}, {
		Host: sessions.Host{Name: "lx3", Farm: "linux", Addr: "lx3:3389", Slots: 4, Weight: 1},
		XRDP: &XRDP{CommandPrefix: []string{"sudo", "-n"}, Poll: 5 * time.Second, Timeout: 20 * time.Second},
	}}, linux.Hosts)

	alice := sessions.Account{Domain: "CONTOSO", User: "alice"}
	diff(t, Identity{
		Users:          []sessions.Account{{User: "dave"}, {User: "erin"}, {Domain: "contoso.example", User: "frank"}},
		Aliases:        map[string]sessions.Account{"boss": alice},
		UPNSuffixes:    map[string]string{"contoso.example": "CONTOSO"},
		TrustedClients: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		Clients:        map[netip.Prefix]sessions.Account{netip.MustParsePrefix("10.1.2.3/32"): {User: "kiosk"}},
		RememberFor:    720 * time.Hour,
		Tokens: Tokens{
			Keys:    []string{filepath.Join(folder, "key"), filepath.Join(folder, "ts1")},
			Revoked: []string{"0a1b2c3d4e5f6071", "0a1b2c3d4e5f6072"},
			NotBefore: map[sessions.Account]time.Time{
				alice:         time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC),
				{User: "bob"}: time.Date(2026, 11, 27, 7, 0, 0, 0, time.UTC),
			},
		},
	}, cfg.Identity)
	if cfg.Farm("Office") != nil {
		t.Error("Farm found a farm of another name")
	}
}

// A farm's rules over those for all: what protects adds up, what a farm says of its
// own counts, and what is asked for by name must be known.
func TestRulesOfEviction(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const workdays placement.Weekdays = 1<<time.Monday | 1<<time.Tuesday | 1<<time.Wednesday | 1<<time.Thursday | 1<<time.Friday
	want := placement.Eviction{
		Mode: placement.Shadow, Proof: placement.Credentials, MinDisconnected: 15 * time.Minute, PerHostPerHour: 6, PerClientPerHour: 4,
		MinDisconnectedFor: []placement.Grace{{Pattern: `CONTOSO\boss`, For: 8 * time.Hour}, {Pattern: "bob", For: 24 * time.Hour}},
		Hours: placement.Hours{Location: berlin, Windows: []placement.Window{
			{Days: workdays, From: 7 * 60, To: 19 * 60}, {Days: 1 << time.Saturday, From: 10 * 60, To: 14 * 60},
		}},
		BusyCPU: .05, BusyIO: 1000, CPUMustBeKnown: true, IOMustBeKnown: true, PerFarmPerHour: 20, PerHour: 3, IdleWarning: 2 * time.Minute, KeepMarkMax: 24 * time.Hour,
	}
	diff(t, want, cfg.Farm("b").Policy.Eviction)
	want.MinDisconnectedFor = append(want.MinDisconnectedFor, placement.Grace{Pattern: "carol", For: 4 * time.Hour}, placement.Grace{Pattern: "svc-*", For: time.Minute})
	want.Hours.Windows = []placement.Window{{Days: placement.EveryDay, From: 22 * 60, To: 6 * 60}}
	want.BusyCPU, want.CPUMustBeKnown, want.BusyIO, want.IOMustBeKnown, want.PerHour = 0, false, 131072, false, 0
	diff(t, want, cfg.Farm("a").Policy.Eviction)
}

func TestTheSameFileGivesEqualConfigs(t *testing.T) {
	a, errA := parseFile(t, "testdata/good/merged.yaml")
	b, errB := parseFile(t, "testdata/good/merged.yaml")
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if !reflect.DeepEqual(a, b) {
		t.Error("two readings of one file differ")
	}
}

func TestWindowsDefaults(t *testing.T) {
	keys := presets("windows")
	if !strings.HasSuffix(keys.Admin.Socket, ".sock") || strings.Contains(keys.Admin.Socket, "/run/") {
		t.Errorf("the admin socket is %q", keys.Admin.Socket)
	}
}

func TestLoad(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("protected.txt", "admin*\n", 0o644)
	write("secret", "s3cret\r\nsecond line\n", 0o600)
	write("broker.yaml", `
listen: [{address: ':0', farm: a}]
farms: {a: {hosts: [{name: ts1, slots: 1, winrm: {user: u, password_file: secret}}]}}
eviction: {protect_list: protected.txt}
`, 0o644)
	cfg, err := Load(filepath.Join(folder, "broker.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	diff(t, Problems(nil), cfg.Warnings)
	diff(t, []string{"admin*"}, cfg.Farms[0].Policy.Eviction.Protect)
	password, err := cfg.Farms[0].Hosts[0].WinRM.Password.Read()
	if err != nil || password != "s3cret" {
		t.Errorf("the password is %q, %v", password, err)
	}

	_, err = Load(filepath.Join(folder, "none.yaml"))
	ps, ok := err.(Problems)
	if !ok || len(ps) != 1 || ps[0].Line != 0 || !strings.Contains(ps[0].What, "cannot be read") {
		t.Errorf("a missing file gives %v", err)
	}
	write("long.yaml", strings.Repeat("#\n", maxFile), 0o644)
	if _, err := Load(filepath.Join(folder, "long.yaml")); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a file that is too long gives %v", err)
	}
}

// diff fails t if got is not want; nil and empty are the same.
func diff[T any](t *testing.T, want, got T) {
	t.Helper()
	opts := cmp.Options{cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
		cmp.Comparer(func(a, b *time.Location) bool { return reflect.DeepEqual(a, b) })}
	if d := cmp.Diff(want, got, opts); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
