#!/bin/bash
# The first process of an xrdp host's pid namespace. Started by the test in
# fresh mount, uts, ipc and pid namespaces as: host.sh NAME DIR
# Standard input first names the users, one "name:password" a line, up to an
# empty line. The host has its own /etc, /home, /tmp, /run and /var/log; all but /tmp
# and /run can be seen from outside under DIR. It ends, and with it every
# process of the host, when its standard input closes.
set -eu
name=$1 dir=$2
hostname "$name"
mount --bind "$dir/etc" /etc
mount --bind "$dir/home" /home
mount --bind "$dir/log" /var/log
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -m 1777 /run/lock
mkdir /run/xrdp /run/sshd
mkdir -m 3777 /run/xrdp/sockdir
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -m 1777 /tmp/.X11-unix
cd /
users=
while read -r user && [ -n "$user" ]; do
	useradd --create-home --shell /bin/bash "${user%%:*}"
	users+=$user$'\n'
done
printf %s "$users" | chpasswd
xrdp-sesman -n </dev/null >/var/log/sesman.out 2>&1 &
xrdp -n </dev/null >/var/log/xrdp.out 2>&1 &
while read -r _; do :; done # bash reaps orphans meanwhile
