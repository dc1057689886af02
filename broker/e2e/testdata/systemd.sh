#!/bin/sh
# A machine of its own with systemd as its first process: this one's files under a
# layer that is thrown away, its own processes, mounts and control groups. The
# network is this machine's. It is called as
#
#   unshare --mount --pid --ipc --uts --cgroup --fork --kill-child systemd.sh FOLDER
#
# FOLDER has what is put into the machine: rdpbroker, rdpbroker.service, etc/.
set -eu
from=$1
layer=$(mktemp -d)
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
cd "$layer/root"

cp "$from/rdpbroker" usr/bin/rdpbroker
rm -rf etc/systemd/system
mkdir -p etc/systemd/system etc/rdpbroker
cp "$from/rdpbroker.service" etc/systemd/system/
cp "$from"/etc/* etc/rdpbroker/
id rdpbroker >/dev/null 2>&1 || useradd --root "$layer/root" --system --user-group --no-create-home rdpbroker
chroot . chown -R root:rdpbroker /etc/rdpbroker
chmod 0750 etc/rdpbroker
chmod 0640 etc/rdpbroker/*
# Nothing else of this machine's is started.
cat >etc/systemd/system/test.target <<'END'
[Unit]
DefaultDependencies=no
Wants=rdpbroker.service
END
mkdir etc/systemd/system/rdpbroker.service.d
cat >etc/systemd/system/rdpbroker.service.d/test.conf <<'END'
[Unit]
DefaultDependencies=no
[Service]
StandardError=append:/run/broker.log
END

mount -t proc proc proc
mount -t sysfs sysfs sys 2>/dev/null || mount --rbind /sys sys
mount -t tmpfs tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount --rbind /dev dev
mount -t tmpfs -o mode=0755 tmpfs run
mkdir -p .old
pivot_root . .old
exec chroot . /bin/sh -c 'umount -l /.old; exec env container=other /lib/systemd/systemd --system --unit=test.target --log-target=console --log-level=notice'
