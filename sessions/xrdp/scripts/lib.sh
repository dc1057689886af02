# Functions of all scripts. POSIX sh; needs Linux's /proc and the base tools of
# any distribution. Nothing is written to the host but a lock file under /run.
set -u
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

# fail KIND TEXT ends the script with an answer that says why there is no other.
fail() {
	echo "error $*"
	exit 0
}

# The executables and sockets of other users can be seen by root only.
need_root() {
	uid=$(id -u)
	[ "$uid" = 0 ] || fail "rights the command runs as uid $uid, but must run as root"
	[ -r /proc/net/tcp ] && [ -r /proc/self/stat ] || fail "proc /proc cannot be read"
}

# ticks_of PID sets ticks (start time in clock ticks since boot), parent and
# state of a process. False if there is no such process. A program may put any
# bytes into its name, so the fields are counted from the last parenthesis.
ticks_of() {
	ticks='' stat=''
	{ IFS= read -r stat </proc/"$1"/stat; } 2>/dev/null || return 1
	case $stat in
	*') '*) ;;
	*) stat=$(cat /proc/"$1"/stat 2>/dev/null) || return 1 ;;
	esac
	rest=${stat##*) }
	# shellcheck disable=SC2086
	set -- $rest
	[ $# -ge 20 ] || return 1
	state=$1 parent=$2
	shift 19
	ticks=$1
}

# lives PID TICKS: this very process is there and is no zombie.
lives() {
	ticks_of "$1" && [ "$ticks" = "$2" ] && [ "$state" != Z ] && [ "$state" != X ]
}

# user_name UID prints the name of a user, local or of a directory service.
user_name() {
	{ getent passwd "$1" 2>/dev/null || cat /etc/passwd; } | awk -F: -v uid="$1" '$3 == uid { print $1; exit }'
}

# displays_in_use N... prints those of the X displays N that a client is connected
# to: by an established TCP connection on port 5900+N (Xvnc), or a connected unix
# stream named xrdp_display_N (Xorg); or whose channel server still has one, which
# lags behind by some milliseconds. Whoever the peer is: somebody who looks at a
# session by other means than xrdp is using it as well.
displays_in_use() {
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v wanted=" $* " '
		function hex(s,  i, n) {
			n = 0
			for (i = 1; i <= length(s); i++) n = n * 16 + index("123456789ABCDEF", toupper(substr(s, i, 1)))
			return n
		}
		$4 == "01" {
			display = hex(substr($2, index($2, ":") + 1)) - 5900
			if (index(wanted, " " display " ") && !seen[display]++) print display
		}'
	awk -v wanted=" $* " '
		$6 == "03" && $8 ~ /\/xrdp_(display|chansrv_socket)_[0-9]+$/ {
			display = $8
			sub(/.*_/, "", display)
			if (index(wanted, " " display " ") && !seen[display]++) print display
		}' /proc/net/unix
}

# chansrv_sockets DIR prints "display date time zone" for each socket on which a
# channel server waits for a client, with the time of its last change (ctime),
# which no user can set back. They are in DIR/uid or DIR/sockdir/uid with xrdp 0.10,
# in DIR/sockdir before.
chansrv_sockets() {
	# No display has a socket while all clients are connected: then stat fails.
	stat -c '%z %n' "$1"/*/xrdp_chansrv_socket_* "$1"/*/*/xrdp_chansrv_socket_* 2>/dev/null |
		awk 'NF == 4 { sub(/.*_/, "", $4); if ($4 ~ /^[0-9]+$/) print $4, $1, $2, $3 }'
}

# logins LOG prints "session stamp" for each session that the session manager's log
# tells of: when a client last logged on to it, and from where. That is written
# down before the client is connected to the display.
logins() {
	[ -r "$1" ] || return 0
	tail -c 1000000 "$1" | awk '
		function after(word,  i) { return (i = index($0, word)) ? substr($0, i + length(word)) : "" }
		# Only where the message begins: names that people type are in there, too.
		{ session = "" }
		/^\[[^]]*\] (\[[^]]*\] )*(\+\+ reconnected session:|Starting session:)/ { session = after("session_pid ") }
		/^\[[^]]*\] (\[[^]]*\] )*starting xrdp-sesexec with pid/ { session = after("with pid ") } # 0.10
		session != "" {
			sub(/[^0-9].*/, "", session)
			stamp = substr($1, 2); sub(/\].*/, "", stamp)
			from = after(" ip "); sub(/[^0-9a-f.:].*/, "", from)
			if (session != "" && stamp ~ /^[0-9T:.+-]+$/) last[session] = stamp "@" from
		}
		END { for (session in last) print session, last[session] }'
}

# as_user UID GID COMMAND... prints the first bytes that a command prints as a user,
# with nothing of root's. It and whoever reads it are killed after a second or two,
# because a user can make whatever is theirs hang.
as_user() {
	uid=$1 gid=$2
	shift 2
	timeout -s KILL 1 setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs -- "$@" </dev/null 2>/dev/null |
		timeout -s KILL 2 head -c 64
}

# keep_marker UID GID HOME prints "keep UID SECONDS TEXT" if the user wants their
# session kept: when the file .config/rdpbroker/keep was written, and what is in it,
# "-" for nothing. The user's own eyes are the only ones that look: what they cannot
# read, no link of theirs leads to.
keep_marker() {
	command -v setpriv >/dev/null && command -v timeout >/dev/null || return 0
	marker=$3/.config/rdpbroker/keep
	facts=$(as_user "$1" "$2" stat -c '%F/%Y' -- "$marker")
	case $facts in
	'regular file/'* | 'regular empty file/'*) ;;
	*) return 0 ;;
	esac
	written=${facts##*/}
	case $written in
	'' | *[!0-9]*) return 0 ;;
	esac
	text=$(as_user "$1" "$2" head -c 17 -- "$marker" | tr -cd '0-9A-Za-z')
	echo "keep $1 $written ${text:--}"
}
