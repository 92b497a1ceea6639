#!/bin/sh
# Run a script as root on a machine of its own: house.sh FOLDER SCRIPT PATH...
#
# It has the programs of this machine and the folders PATH, which cannot be written to, and for all else a fresh
# disk in memory that is gone afterwards.  To be run in new namespaces of mounts, processes and network
# (unshare --mount --pid --fork --net), whose only interface is lo.
set -eu

new=$1
script=$2
shift 2

mount --make-rprivate /
mount -t tmpfs -o mode=755 house "$new"
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then
        cp -P "/$name" "$new/$name"
    elif [ -d "/$name" ]; then
        set -- "$@" "/$name"
    fi
done
mkdir -p "$new/etc" "$new/proc" "$new/dev" "$new/root" "$new/run" "$new/var/log" "$new/var/mail"
mkdir -m 1777 "$new/tmp" "$new/var/tmp"
ln -s ../run "$new/var/run"
for path in /usr "$@"; do
    mkdir -p "$new$path"
    mount --rbind "$path" "$new$path"
    mount -o remount,bind,ro "$new$path"
done
mount -t proc proc "$new/proc"
mount --rbind /dev "$new/dev"
for path in /etc/alternatives /etc/default /etc/environment /etc/group /etc/gshadow /etc/ld.so.* /etc/login.defs \
    /etc/nsswitch.conf /etc/pam.* /etc/passwd /etc/protocols /etc/python3* /etc/security /etc/services /etc/shadow \
    /etc/skel /etc/ssl; do
    [ ! -e "$path" ] || cp -a "$path" "$new/etc/"
done
ip link set lo up
exec chroot "$new" /bin/sh "$script"
