# wait.sh SECONDS SESSION TICKS X X_TICKS: waits for the end of a session.
# Answers "gone", or "still" when the seconds are over.
bound=$1 session=$2 start=$3 x=$4 x_start=$5
echo "rdpbroker-xrdp 1"
need_root
until=$(($(date +%s) + bound))
while lives "$session" "$start" || lives "$x" "$x_start"; do
	if [ "$(date +%s)" -ge "$until" ]; then
		echo still
		exit 0
	fi
	sleep 0.1 2>/dev/null || sleep 1
done
echo gone
