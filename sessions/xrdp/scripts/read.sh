# read.sh SESMAN_INI SESMAN_LOG SOCKET_DIR: prints one reading. What the facts
# mean is decided by whoever reads it; see parse.go for the lines.
ini=$1 log=$2 sockets=$3
echo "rdpbroker-xrdp 1"
need_root

# now is before everything else: what happens later may be missing below.
echo "now $(date +%s.%N)"
IFS= read -r boot </proc/sys/kernel/random/boot_id || fail "proc no boot ID"
echo "boot $boot"
IFS=' ' read -r uptime rest </proc/uptime || fail "proc no uptime"
echo "uptime $uptime"
echo "hz $(getconf CLK_TCK 2>/dev/null || echo 100)"
awk '$1 == "btime" { print }' /proc/stat

awk -F= '$1 == "PRETTY_NAME" { gsub(/[^A-Za-z0-9 ().\/_+-]/, "", $2); print "os", substr($2, 1, 64) }' /etc/os-release 2>/dev/null

# Settings of the session manager, of which the last one counts.
if [ -r "$ini" ]; then
	awk '
		BEGIN { value["maxsessions"] = "0" }
		/^[ \t]*[#;]/ { next }
		/^[ \t]*\[/ { section = tolower($0); gsub(/[ \t\r]/, "", section); next }
		section == "[sessions]" && (i = index($0, "=")) {
			key = tolower(substr($0, 1, i - 1)); gsub(/[ \t]/, "", key)
			v = tolower(substr($0, i + 1)); gsub(/[^a-z0-9-]/, "", v)
			if (key ~ /^(maxsessions|killdisconnected|disconnectedtimelimit|idletimelimit)$/ && v != "") value[key] = substr(v, 1, 9)
		}
		END { for (key in value) print "setting", key, value[key] }' "$ini"
else
	echo "setting unreadable -"
fi

# Every process: pid, parent, uid ("-" while it changes), state, name. The kernel
# escapes names here, so that no program can forge a line.
table=$(cat /proc/[0-9]*/status 2>/dev/null | awk '
	$1 == "Name:" { name = substr($0, 7); gsub(/[^A-Za-z0-9._+-]/, "?", name); pid = "" }
	$1 == "State:" { state = $2 }
	$1 == "Pid:" { pid = $2 }
	$1 == "PPid:" { parent = $2 }
	$1 == "Uid:" && pid != "" { print pid, parent, ($2 == $3 && $3 == $4 ? $2 : "-"), state, name }')

# Which of them really run xrdp's programs: names can be chosen, /proc/PID/exe cannot.
real=' '
for pid in $(printf '%s\n' "$table" | awk '$3 == 0 && ($5 == "xrdp-sesman" || $5 == "xrdp-sesexec") { print $1 }'); do
	exe=$(readlink /proc/"$pid"/exe 2>/dev/null) || continue
	case ${exe% (deleted)} in
	*/xrdp-sesman | */xrdp-sesexec) real="$real$pid " ;;
	esac
done

found=$(printf '%s\n' "$table" | awk -v real="$real" '
	function ours(p) { return index(real, " " p " ") > 0 }
	{ order[++n] = $1; parent[$1] = $2; uid[$1] = $3; state[$1] = $4; name[$1] = $5 }
	END {
		for (i = 1; i <= n; i++) {
			p = order[i]
			if (state[p] == "Z" || state[p] == "X") continue
			children[parent[p]] = children[parent[p]] " " p
			if (name[p] ~ /^X/ || name[p] == "xrdp-chansrv") server[parent[p]] = 1
		}
		for (i = 1; i <= n; i++) {
			p = order[i]
			if (!ours(p)) continue
			if (name[p] == "xrdp-sesexec") { # 0.10; without children it is a logon, no session
				if (p in children) session[p] = 1
			} else if (!ours(parent[p])) {
				print (p in server ? "orphan" : "sesman"), p
			} else if (!ours(parent[parent[p]])) { # a deeper one is a fork that has not become its program yet
				session[p] = 1
			}
		}
		for (s in session) {
			print "session", s
			k = split(children[s], c, " ")
			for (j = 1; j <= k; j++) {
				print "child", s, c[j], uid[c[j]], name[c[j]]
				if (uid[c[j]] > 0) users[uid[c[j]]] = 1
			}
		}
		for (i = 1; i <= n; i++) {
			p = order[i]
			if (uid[p] in users && state[p] != "Z" && !((uid[p], name[p]) in seen)) {
				seen[uid[p], name[p]] = 1
				print "program", uid[p], name[p]
			}
		}
		for (u in users) print "uid", u
	}' | while read -r kind a b c d; do
	case $kind in
	session)
		ticks_of "$a" && echo "session $a $ticks"
		;;
	child)
		ticks_of "$b" || continue
		echo "child $a $b $ticks $c $d"
		case $d in
		X*)
			display=$(tr '\000' '\n' </proc/"$b"/cmdline 2>/dev/null | sed -n 's/^:\([0-9][0-9]*\)$/\1/p' | sed q)
			[ -z "$display" ] || echo "display $b $display"
			;;
		esac
		;;
	uid) echo "user $a $(user_name "$a")" ;;
	program) echo "program $a $b" ;;
	*) echo "$kind $a" ;;
	esac
done)
printf '%s\n' "$found"

# What the users' processes have computed, in clock ticks; without those that every
# session has and that work for the client.
owned=$(printf '%s\n' "$table" | awk -v uids="$(printf '%s\n' "$found" | awk '$1 == "user" { printf " %s ", $2 }')" '
	index(uids, " " $3 " ") && $5 !~ /^X/ && $5 != "xrdp-chansrv" { print $1, $3 }')
if [ -n "$owned" ]; then
	{
		printf '%s\n' "$owned"
		# shellcheck disable=SC2046
		cat $(printf '%s\n' "$owned" | sed 's|\([0-9]*\).*|/proc/\1/stat|') 2>/dev/null
	} | awk '
		NF == 2 && !stats { owner[$1] = $2; next }
		{ stats = 1 }
		($1 in owner) && match($0, /.*\) /) {
			if (split(substr($0, RLENGTH + 1), f, " ") > 13) cpu[owner[$1]] += f[12] + f[13]
		}
		END { for (uid in cpu) printf "cpu %d %.0f\n", uid, cpu[uid] }'
fi

displays=$(printf '%s\n' "$found" | awk '$1 == "display" { print $3 }')
# shellcheck disable=SC2086
used=$(displays_in_use $displays)
[ -z "$used" ] || printf '%s\n' "$used" | sed 's/^/in-use /'
echo "looked $(date +%s.%N)"
chansrv_sockets "$sockets" | sed 's/^/socket /'

# What users whose sessions nobody is connected to want, all asked at once.
for uid in $(printf '%s\n' "$found" | awk -v used=" $(echo $used) " '
	$1 == "child" && $5 > 0 { owner[$3] = $5 }
	$1 == "display" && ($2 in owner) && !index(used, " " $3 " ") { print owner[$2] }' | sort -u); do
	{ getent passwd "$uid" 2>/dev/null || cat /etc/passwd; } | awk -F: -v uid="$uid" '$3 == uid { print $4 ":" $6; exit }' | {
		IFS=: read -r gid home
		case $home in
		/*) keep_marker "$uid" "$gid" "$home" ;;
		esac
	} &
done
wait

logins "$log" | sed 's/^/login /'
echo end
