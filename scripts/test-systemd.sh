#!/bin/sh
# Boot systemd, and run the daemons of the package by their units: test-systemd.sh [RELEASE].  Linux, root.
#
# RELEASE and system are those of test-debian.sh, which runs this script there once more: the package is built and
# systemd is installed.  Then systemd runs as process 1 of a namespace of its own, whose only network is lo and where
# /sys and /proc/sys are read-only, since they are this machine's.  It has all control groups in one new hierarchy; the
# machine's own controllers may be missing there.  Its service popular-test runs booted.py, and its result is that of
# the boot.  There are two: in the first the package is installed, in the second everything has to start by itself.
set -eu

[ "${1:-}" = there ] || exec sh scripts/test-debian.sh "${1:-}" "sh scripts/test-systemd.sh there"

boot='
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
umount -l -R /sys
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /run
exec env -i container=popular-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --show-status=no --log-target=null
'

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null
apt-get install -y -qq --no-install-recommends systemd-sysv adduser openssl python3-configobj python3-daemon \
    python3-setproctitle >/dev/null
sh scripts/deb.sh dist

cat >/etc/systemd/system/popular-test.service <<UNIT
[Unit]
Description=The test
After=multi-user.target
SuccessAction=exit
FailureAction=exit

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 $(pwd)/scripts/booted.py $(pwd)/dist
StandardOutput=append:/root/said
StandardError=append:/root/said
TimeoutStartSec=180s
UNIT
ln -s ../popular-test.service /etc/systemd/system/multi-user.target.wants

for number in 1 2; do
    code=0
    timeout -k 10 240 unshare --mount --pid --cgroup --net --uts --ipc --fork --kill-child sh -euc "$boot" || code=$?
    cat /root/said
    [ "$code" = 0 ] || { echo "test-systemd: boot $number failed, $code" >&2; exit 1; }
    : >/root/said
done
