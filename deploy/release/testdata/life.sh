#!/bin/sh
# The life of the package on a machine of its own: this one's files under a layer
# that takes all changes and is thrown away. It is called in a mount namespace.
#
#   life.sh PACKAGE.deb
set -eu
deb=$1
layer=$(mktemp -d)
mount -t tmpfs -o mode=0755 tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
mount -t proc proc "$layer/root/proc"
mount -t tmpfs tmpfs "$layer/root/run"
mount --bind /dev "$layer/root/dev"
cp "$deb" "$layer/root/run/rdpbroker.deb"
exec chroot "$layer/root" /bin/sh -eu <<'END'
say() { echo "== $*"; }
fail() { echo "FAILED: $*"; exit 1; }

say install
dpkg --install /run/rdpbroker.deb
getent passwd rdpbroker >/dev/null || fail "there is no user rdpbroker"
[ "$(stat -c '%U:%G %a' /etc/rdpbroker)" = 'root:rdpbroker 750' ] || fail "rights of /etc/rdpbroker: $(stat -c '%U:%G %a' /etc/rdpbroker)"

say configure
cat >/etc/rdpbroker/broker.yaml <<'YAML'
listen:
  - {address: '127.0.0.1:0', farm: office}
farms:
  office:
    hosts:
      - {name: ts1, address: '127.0.0.1:9', slots: 2, winrm: {address: 'https://127.0.0.1:9', user: 'CONTOSO\svc', password_file: winrm.password}}
admin: {metrics: ''}
YAML
echo secret >/etc/rdpbroker/winrm.password
chgrp rdpbroker /etc/rdpbroker/*
chmod 0640 /etc/rdpbroker/*

say start
# What the unit says, without systemd: its folders, its user, its commands.
unit=/usr/lib/systemd/system/rdpbroker.service
as='setpriv --reuid rdpbroker --regid rdpbroker --clear-groups --no-new-privs --inh-caps=-all'
for dir in /run/rdpbroker /var/lib/rdpbroker /var/log/rdpbroker; do
	install -d -o rdpbroker -g rdpbroker -m 0750 "$dir"
done
cd /etc/rdpbroker
$as $(sed -n 's/^ExecStartPre=//p' "$unit")
$as $(sed -n 's/^ExecStart=//p' "$unit") 2>/run/broker.log &
pid=$!
n=0
until $as rdpbroker hosts -c broker.yaml >/run/hosts 2>&1; do
	n=$((n + 1))
	[ "$n" -lt 300 ] || { cat /run/hosts /run/broker.log; fail "it does not answer"; }
	sleep 0.1
done
grep -q ts1 /run/hosts || fail "no ts1 in $(cat /run/hosts)"
[ "$(stat -c %U "/proc/$pid")" = rdpbroker ] || fail "it runs as $(stat -c %U "/proc/$pid")"
kill -HUP "$pid"
kill -TERM "$pid"
wait "$pid" || { cat /run/broker.log; fail "it ended with $?"; }
grep -q 'the configuration was reloaded' /run/broker.log || { cat /run/broker.log; fail "it was not reloaded"; }

say upgrade
dpkg --install /run/rdpbroker.deb
[ -e /etc/rdpbroker/broker.yaml ] || fail "the configuration is gone"

say remove
dpkg --remove rdpbroker
[ ! -e /usr/bin/rdpbroker ] || fail "the program is still there"
[ -e /etc/rdpbroker/broker.yaml ] || fail "the configuration is gone"
dpkg --purge rdpbroker
[ ! -e /var/lib/rdpbroker ] || fail "what it remembered is still there"
[ -e /etc/rdpbroker/broker.yaml ] || fail "the operator's configuration is gone"
say done
END
