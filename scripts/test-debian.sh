#!/bin/sh
# Run the README's two commands on another release of Debian: test-debian.sh [RELEASE [COMMAND]].  Linux, root.
#
# RELEASE is trixie unless this machine's is, and bookworm then.  The system is a bare one, with Python, make and git
# only, made by debootstrap once and kept in the cache; each run works in a copy of it, on a clean clone of what is
# committed.  `make run ONCE=1` is run there as an ordinary user and as root, then `make test`; or COMMAND alone, as
# root in the clone.  Ends with the exit code of the first command that failed.
#
# It is no chroot, in which the kernel refuses namespaces to whoever wants some, but a root of its own (pivot_root)
# with its own processes, mounts, /dev and host name, which all end with it.  The network is that of this machine, and
# so are the settings of apt and pip: mirrors, proxies and certificates.
set -eu

packages=ca-certificates,git,make,python3,python3-venv

say() { echo "test-debian: $*" >&2; }
die() { say "$*"; exit 1; }

get_debootstrap() {
    command -v apt-get >/dev/null || return
    say "installing debootstrap"
    apt-get update -qq >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
}

# What this machine's apt calls Debian's archives: lines of address, suite and component.
archives() {
    # shellcheck disable=SC2016  # apt replaces them
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk -v here="$here" -v there="$release" \
            '$2 == here || index($2, here "-") == 1 { sub(here, there, $2); print }' | sort -u
}

make_base() {
    mirror=$(archives | awk -v there="$release" '$2 == there { print $1; exit }')
    say "making a system with debootstrap; it is kept in $base"
    rm -rf "$base.part"
    debootstrap --variant=minbase --include="$packages" "$release" "$base.part" ${mirror:+"$mirror"} >"$cache/log" 2>&1 || {
        tail -n 5 "$cache/log" >&2
        die "debootstrap failed; all of it is in $cache/log"
    }
    mv "$base.part" "$base"
}

# What a machine on this network needs to reach archives and package index.
settle() {
    lines=$(archives | sed 's/^/deb /')
    [ -z "$lines" ] || echo "$lines" >"$root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(http|https|Check)' >"$root/etc/apt/apt.conf.d/90host" || true
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    echo "127.0.0.1 localhost $name" >"$root/etc/hosts"
    echo "$name" >"$root/etc/hostname"
    for file in /usr/local/share/ca-certificates/*.crt; do
        [ ! -e "$file" ] || cp "$file" "$root/usr/local/share/ca-certificates"
    done
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    chroot "$root" useradd --create-home tester
    git clone -q --no-hardlinks "$(pwd)" "$root/root/popular"
    cp -a "$root/root/popular" "$root/home/tester"
    chroot "$root" chown -R tester: /home/tester/popular
}

# Variables of the environment that apply there as well: no folders of this machine.
inherited() {
    pip='PIP_(INDEX_URL|TRUSTED_HOST|PROXY|CERT|DEFAULT_TIMEOUT)'
    env | grep -E "^(CI|PYTEST_ADDOPTS|$pip|SSL_CERT_(FILE|DIR)|[a-zA-Z]+_(proxy|PROXY))=" || true
}

# shellcheck disable=SC2016  # that shell replaces them
# Process 1 there: $1 is the new root, $2 its cache, $3 the host name, then a command and its words.
enter='
cd "$1"
mount --make-rprivate /
mount --bind . .
cd "$1"
mount --rbind /sys sys
mount -t proc proc proc
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
for each in null zero full random urandom tty; do : >"dev/$each"; mount --bind "/dev/$each" "dev/$each"; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for each in 0/stdin 1/stdout 2/stderr; do ln -s "/proc/self/fd/${each%/*}" "dev/${each#*/}"; done
mount -t tmpfs -o mode=755 run run
mkdir -m 1777 run/lock
mkdir -p root/.cache
mount --bind "$2/home" root/.cache
mount --bind "$2/archives" var/cache/apt/archives
hostname "$3"
mkdir .host
pivot_root . .host
cd /
umount -l .host
rmdir .host
shift 3
"$@"
'

both='
su -s /bin/sh tester -c "cd /home/tester/popular && make run ONCE=1" || exit
cd /root/popular
make run ONCE=1 && make test
'

[ "$(id -u)" = 0 ] || die "only root can make a system"
[ -x /usr/sbin/debootstrap ] || get_debootstrap || die "needs the Debian package debootstrap"
# shellcheck source=/dev/null
here=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
case $here in trixie) other=bookworm ;; *) other=trixie ;; esac
release=${1:-$other}
command=${2:-}
name=popular-$release
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/popular-tests/systems/$release
base=$cache/base
mkdir -p "$cache/home" "$cache/archives/partial"
[ -d "$base" ] || make_base

root=$(mktemp -d "$cache/root-XXXXXX")
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$root"
cp -a --reflink=auto "$base/." "$root"
settle
set -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
while IFS= read -r variable; do
    [ -z "$variable" ] || set -- "$@" "$variable"
done <<VARIABLES
$(inherited)
VARIABLES
code=0
unshare --mount --pid --uts --ipc --fork --kill-child sh -euc "$enter" enter "$root" "$cache" "$name" \
    "$@" sh -c "${command:+cd /root/popular && }${command:-$both}" || code=$?
exit "$code"
