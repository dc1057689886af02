#!/bin/sh
# Installs the real programs that the tests talk to (Debian): xrdp hosts, RDP
# clients, an X server to show them on, and what reads the screens.
#
#   install-test-peers.sh           install what is missing
#   install-test-peers.sh PACKAGE   only this one, such as haproxy for make bench
#   install-test-peers.sh --list    print the package names
set -eu

packages="
chromium freerdp2-shadow-x11 freerdp2-x11 gcc haproxy imagemagick iproute2 krb5-admin-server
krb5-kdc libc6-dev lintian mono-mcs mono-runtime nmap openbox openssh-client
openssh-server procps prometheus rdesktop samba-common-bin samba tesseract-ocr
tigervnc-standalone-server util-linux winpr-utils x11-apps x11-utils
x11-xserver-utils xdotool xorgxrdp xrdp xterm xvfb"

# npm comes with Node.js, which is often installed in another way.
command -v npm >/dev/null 2>&1 || packages="$packages npm"

if [ "${1:-}" = --list ]; then
	printf '%s\n' $packages
	exit 0
fi

[ $# = 0 ] || packages="$*"

missing=
for p in $packages; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "The tests talk to real programs. Install the equivalents of these Debian packages:$missing" >&2
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "The tests talk to real programs. As root: apt-get install$missing" >&2
	exit 0
fi
echo "Installing what the tests talk to:$missing"
export DEBIAN_FRONTEND=noninteractive
# The packages must not start services of their own: the tests start theirs.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
log=$(mktemp)
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
	cat "$log" >&2
	exit 1
fi
rm -f "$log"
