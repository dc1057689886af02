package config

import "time"

// The structs here are broker.yaml as it is written. The example file says what
// each key means; defaults.go what holds where it is left out.

type fileKeys struct {
	Listen       []listenKeys        `yaml:"listen,required"`
	Admin        adminKeys           `yaml:"admin"`
	Log          logKeys             `yaml:"log"`
	Audit        auditKeys           `yaml:"audit"`
	StateFile    string              `yaml:"state_file"`
	Limits       limitKeys           `yaml:"limits"`
	DrainTimeout time.Duration       `yaml:"drain_timeout" min:"0s" max:"7d"`
	KeepAlive    keepAliveKeys       `yaml:"keep_alive"`
	Farms        map[string]farmKeys `yaml:"farms,required"`
	Defaults     defaultKeys         `yaml:"defaults"`
	Eviction     evictionKeys        `yaml:"eviction"`
	Identity     identityKeys        `yaml:"identity"`
}

type listenKeys struct {
	Address       string    `yaml:"address,required"`
	Farm          string    `yaml:"farm,required"`
	ProxyProtocol []network `yaml:"proxy_protocol"`
}

type adminKeys struct {
	Socket        string            `yaml:"socket"`
	Metrics       string            `yaml:"metrics"`
	Listen        string            `yaml:"listen"`
	CertFile      string            `yaml:"cert_file"`
	KeyFile       string            `yaml:"key_file"`
	PeopleFile    string            `yaml:"people_file"`
	TrustedHeader trustedHeaderKeys `yaml:"trusted_header"`
}

type trustedHeaderKeys struct {
	Name string    `yaml:"name"`
	From []network `yaml:"from"`
}

type logKeys struct {
	Level  string `yaml:"level" oneof:"debug info warn error"`
	Format string `yaml:"format" oneof:"json console"`
}

type auditKeys struct {
	File    string      `yaml:"file"`
	Rotate  rotateKeys  `yaml:"rotate"`
	Webhook webhookKeys `yaml:"webhook"`
}

type webhookKeys struct {
	URL         string        `yaml:"url"`
	SecretFile  string        `yaml:"secret_file"`
	Events      []event       `yaml:"events"`
	Timeout     time.Duration `yaml:"timeout" min:"1s" max:"1m"`
	Tries       int           `yaml:"tries" min:"1" max:"20"`
	Undelivered string        `yaml:"undelivered"`
	CAFile      string        `yaml:"ca_file"`
	PlainHTTP   bool          `yaml:"plain_http"`
}

type rotateKeys struct {
	Size     byteSize      `yaml:"size" min:"64KB" max:"64GB"`
	Age      time.Duration `yaml:"age" min:"0s" max:"365d"`
	Keep     time.Duration `yaml:"keep" min:"0s" max:"3650d"`
	Files    int           `yaml:"files" min:"0" max:"100000"`
	Compress bool          `yaml:"compress"`
}

type limitKeys struct {
	Connections      int           `yaml:"connections" min:"1" max:"1000000"`
	PerClient        int           `yaml:"per_client" min:"1" max:"1000000"`
	Pending          int           `yaml:"pending" min:"1" max:"1000000"`
	PendingPerClient int           `yaml:"pending_per_client" min:"1" max:"1000000"`
	FirstPacket      time.Duration `yaml:"first_packet" min:"1s" max:"5m"`
	Dial             time.Duration `yaml:"dial" min:"100ms" max:"2m"`
	DialsPerHost     int           `yaml:"dials_per_host" min:"0" max:"1000"`
}

type keepAliveKeys struct {
	Idle     time.Duration `yaml:"idle" min:"1s" max:"2h"`
	Interval time.Duration `yaml:"interval" min:"1s" max:"10m"`
	Count    int           `yaml:"count" min:"1" max:"20"`
}

type farmKeys struct {
	Balance               string              `yaml:"balance" oneof:"least-sessions weighted fill-first"`
	TakeOverActive        bool                `yaml:"take_over_active"`
	Wait                  time.Duration       `yaml:"wait" min:"0s" max:"10m"`
	Reservation           time.Duration       `yaml:"reservation" min:"10s" max:"1h"`
	ReservationsPerClient int                 `yaml:"reservations_per_client" min:"1" max:"100000"`
	Pins                  map[string]string   `yaml:"pins"`
	Reserve               reserveKeys         `yaml:"reserve"`
	Eviction              later[evictionKeys] `yaml:"eviction"`
	Hosts                 []hostKeys          `yaml:"hosts,required"`
}

type reserveKeys struct {
	Users []pattern `yaml:"users"`
	Slots int       `yaml:"slots" min:"0" max:"10000"`
}

type hostKeys struct {
	Name              string            `yaml:"name,required"`
	Address           string            `yaml:"address"`
	Slots             int               `yaml:"slots" min:"1" max:"10000"`
	CountDisconnected string            `yaml:"count_disconnected" oneof:"auto yes no"`
	Weight            int               `yaml:"weight" min:"1" max:"1000"`
	Drain             bool              `yaml:"drain"`
	WinRM             later[winrmKeys]  `yaml:"winrm"`
	SSH               later[winsshKeys] `yaml:"ssh"`
	RPC               later[rpcKeys]    `yaml:"rpc"`
	XRDP              later[xrdpKeys]   `yaml:"xrdp"`
}

type defaultKeys struct {
	WinRM winrmKeys  `yaml:"winrm"`
	SSH   winsshKeys `yaml:"ssh"`
	RPC   rpcKeys    `yaml:"rpc"`
	XRDP  xrdpKeys   `yaml:"xrdp"`
}

type winrmKeys struct {
	Address      string `yaml:"address"`
	User         string `yaml:"user"`
	secretKeys   `yaml:",inline"`
	Auth         string        `yaml:"auth" oneof:"ntlm basic"`
	Mode         string        `yaml:"mode" oneof:"auto agent text"`
	CAFile       string        `yaml:"ca_file"`
	ServerName   string        `yaml:"server_name"`
	Poll         time.Duration `yaml:"poll" min:"1s" max:"10m"`
	Timeout      time.Duration `yaml:"timeout" min:"1s" max:"5m"`
	Processes    time.Duration `yaml:"processes" min:"0s" max:"10m"`
	PlainHTTP    bool          `yaml:"plain_http"`
	TextEviction bool          `yaml:"text_eviction"`
}

type winsshKeys struct {
	sshKeys   `yaml:",inline"`
	Timeout   time.Duration `yaml:"timeout" min:"1s" max:"5m"`
	Processes time.Duration `yaml:"processes" min:"0s" max:"10m"`
}

type rpcKeys struct {
	Address    string `yaml:"address"`
	User       string `yaml:"user"`
	secretKeys `yaml:",inline"`
	Auth       string        `yaml:"auth" oneof:"ntlm kerberos"`
	Realm      string        `yaml:"realm"`
	Krb5Conf   string        `yaml:"krb5_conf"`
	Keytab     string        `yaml:"keytab"`
	Poll       time.Duration `yaml:"poll" min:"1s" max:"10m"`
	Timeout    time.Duration `yaml:"timeout" min:"1s" max:"5m"`
}

type xrdpKeys struct {
	SSH           sshKeys       `yaml:"ssh"`
	Local         bool          `yaml:"local"`
	CommandPrefix []string      `yaml:"command_prefix"`
	Poll          time.Duration `yaml:"poll" min:"1s" max:"10m"`
	Timeout       time.Duration `yaml:"timeout" min:"1s" max:"5m"`
}

type sshKeys struct {
	Address    string `yaml:"address"`
	User       string `yaml:"user"`
	KeyFile    string `yaml:"key_file"`
	secretKeys `yaml:",inline"`
	KnownHosts string `yaml:"known_hosts"`
}

// secretKeys are the two places that a password may come from.
type secretKeys struct {
	PasswordFile string `yaml:"password_file"`
	PasswordEnv  string `yaml:"password_env"`
	Password     string `yaml:"password" refuse:"passwords do not belong in this file: use password_file or password_env"`
}

type evictionKeys struct {
	Mode               string                   `yaml:"mode" oneof:"off shadow evict"`
	Proof              string                   `yaml:"proof" oneof:"known-user credentials"`
	WithoutNLA         string                   `yaml:"without_nla" oneof:"known-user refuse"`
	MinDisconnected    time.Duration            `yaml:"min_disconnected" min:"0s" max:"30d"`
	MinDisconnectedFor map[string]time.Duration `yaml:"min_disconnected_for" min:"1s" max:"30d"`
	Hours              hoursKeys                `yaml:"hours"`
	Protect            []pattern                `yaml:"protect"`
	ProtectList        string                   `yaml:"protect_list"`
	ProtectProcesses   []pattern                `yaml:"protect_processes"`
	PerHostPerHour     int                      `yaml:"per_host_per_hour" min:"0" max:"10000"`
	PerClientPerHour   int                      `yaml:"per_client_per_hour" min:"0" max:"10000"`
	PerFarmPerHour     int                      `yaml:"per_farm_per_hour" min:"0" max:"100000"`
	PerHour            int                      `yaml:"per_hour" min:"0" max:"100000"`
	BusyCPU            int                      `yaml:"busy_cpu" min:"0" max:"10000"`
	BusyIO             int                      `yaml:"busy_io" min:"0" max:"1000000000"`
	HonourKeepMarker   bool                     `yaml:"honour_keep_marker"`
	KeepMarkerMax      time.Duration            `yaml:"keep_marker_max" min:"0s" max:"7d"`
	IdleActive         time.Duration            `yaml:"evict_idle_active" min:"0s" max:"30d"`
	IdleWarning        time.Duration            `yaml:"idle_warning" min:"30s" max:"1h"`
	IdleMessage        string                   `yaml:"idle_message"`
	Headroom           int                      `yaml:"headroom" min:"0" max:"10000"`
	SoftLimit          time.Duration            `yaml:"soft_limit" min:"5s" max:"30m"`
	HardLimit          time.Duration            `yaml:"hard_limit" min:"5s" max:"2h"`
}

type hoursKeys struct {
	Timezone string   `yaml:"timezone"`
	Evict    []window `yaml:"evict"`
}

type identityKeys struct {
	Users          []account          `yaml:"users"`
	UsersFile      string             `yaml:"users_file"`
	Aliases        map[string]account `yaml:"aliases"`
	UPNSuffixes    map[string]string  `yaml:"upn_suffixes"`
	TrustedClients []network          `yaml:"trusted_clients"`
	Clients        map[string]account `yaml:"clients"`
	Remember       rememberKeys       `yaml:"remember"`
	Tokens         tokenKeys          `yaml:"tokens"`
}

type tokenKeys struct {
	Keys        []string           `yaml:"keys"`
	Revoked     []tokenID          `yaml:"revoked"`
	RevokedFile string             `yaml:"revoked_file"`
	NotBefore   map[string]instant `yaml:"not_before"`
}

type rememberKeys struct {
	Entries int           `yaml:"entries" min:"0" max:"1000000"`
	For     time.Duration `yaml:"for" min:"1m" max:"365d"`
}
