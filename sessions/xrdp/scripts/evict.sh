# evict.sh BOOT SESSION TICKS WM WM_TICKS UID USER DISPLAY SOCKET SOCKET_DIR LOGIN LOG
# Ends one session if it is still exactly the one described and nobody is
# connected to it: TERM to its window manager, upon which sesman ends the rest.
# Answers "refused WHY" or "asked".
boot=$1 session=$2 start=$3 wm=$4 wm_start=$5 owner=$6 user=$7 display=$8 socket=$9
shift 9
sockets=$1 login=$2 log=$3
echo "rdpbroker-xrdp 1"
need_root

refuse() {
	echo "refused $1"
	exit 0
}

refuse_if_connected() {
	[ -z "$(displays_in_use "$display")" ] || refuse connected
}

# One eviction at a time on a host, however many brokers there are.
command -v flock >/dev/null || fail "tools flock is missing"
exec 9>/run/rdpbroker-xrdp.lock || fail "rights no lock file in /run"
flock -w 10 9 || refuse busy

IFS= read -r boot_now </proc/sys/kernel/random/boot_id
[ "$boot_now" = "$boot" ] || refuse rebooted
ticks_of "$session" || refuse gone
[ "$ticks" = "$start" ] || refuse other
[ "$state" != Z ] || refuse gone
lives "$wm" "$wm_start" && [ "$parent" = "$session" ] || refuse ending
uids=$(awk '$1 == "Uid:" { print $2, $3, $4 }' /proc/"$wm"/status 2>/dev/null)
[ "$uids" = "$owner $owner $owner" ] || refuse user
[ "$(user_name "$owner")" = "$user" ] || refuse user
refuse_if_connected
socket_now=$(chansrv_sockets "$sockets" | awk -v d="$display" '$1 == d { print $2, $3, $4 }')
[ "$socket_now" = "$socket" ] || refuse used
login_now=$(logins "$log" | awk -v s="$session" '$1 == s { print $2 }')
[ -z "$login_now" ] || [ "$login_now" = "$login" ] || refuse used
refuse_if_connected # again and last, because it is what changes fastest
kill -TERM "$wm" 2>/dev/null || refuse ending
echo asked
