#!/bin/sh
# The desktop of a test session: an unmistakable background, a terminal that
# says in big letters whose session this is and since when, and the same facts
# in the file ~/desktop.N for display N. The pid is the window manager's, which
# is the session's main process; with its start time (in clock ticks since
# boot) it names this running program and no other.
started=$(date +%s.%N)
n=${DISPLAY#*:}
n=${n%%.*}
read -r stat </proc/$$/stat
set -- ${stat##*) }
shift 19 # the start time is field 22 of the line, the 20th after the name
{
	echo "host=$(hostname)"
	echo "user=$(id -un)"
	echo "display=$n"
	echo "pid=$$"
	echo "ticks=$1"
	echo "started=$started"
} >"$HOME/desktop.$n.new" && mv "$HOME/desktop.$n.new" "$HOME/desktop.$n"
xsetroot -solid '@BACKGROUND@'
# Wait for the window manager, or the terminal gets no frame.
(
	sleep 0.3
	exec xterm -fa 'DejaVu Sans Mono' -fs 20 -bg white -fg black -geometry 36x12+20+20 \
		-title "HOST $(hostname) USER $(id -un)" -e sh -c '
		echo "HOST $(hostname)"
		echo "USER $(id -un)"
		echo "DISPLAY $0"
		echo "STARTED $(date -d "@$1" +%H:%M:%S)"
		exec sleep infinity' "$n" "$started"
) &
exec openbox
