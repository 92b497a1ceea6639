#!/bin/sh
# Build the Debian package of this tree: deb.sh FOLDER puts it into FOLDER.  It is built from a copy, with Debian's
# own Python and nothing from the network.  What it is built with (debian/control) is installed when root runs
# this; anyone else is told the names.
set -eu

target=$1
work=$(pwd)/build/deb

die() { echo "deb: $*" >&2; exit 1; }

# Without build-essential, which nothing is compiled with.
unmet() {
    dpkg-checkbuilddeps -I debian/control 2>&1 | sed -n 's/.*[Uu]nmet build dependencies: //p' | sed 's/ *([^)]*)//g'
}

install() {
    echo "deb: installing $*" >&2
    apt-get update -qq >/dev/null || true
    # shellcheck disable=SC2068  # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $@ >/dev/null || true
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

command -v dpkg-buildpackage >/dev/null || ! can_install || install dpkg-dev
command -v dpkg-buildpackage >/dev/null || die "needs the Debian package dpkg-dev"
[ -z "$(unmet)" ] || ! can_install || install "$(unmet)"
[ -z "$(unmet)" ] || die "needs the Debian packages $(unmet)"

rm -rf "$work"
mkdir -p "$work/popular" "$target"
tar -c --exclude-vcs --exclude=./.venv --exclude=./build --exclude=./dist --exclude=./run --exclude='*.egg-info' \
    --exclude=__pycache__ --exclude='.*_cache' --exclude=.hypothesis . | tar -x -C "$work/popular" --no-same-owner
chmod -R go-w "$work/popular"    # what the package's files get
(cd "$work/popular" && env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$work" LC_ALL=C.UTF-8 \
    dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >../log 2>&1) || {
    tail -n 40 "$work/log" >&2
    die "the build failed; all of it is in $work/log"
}
cp "$work"/popular_*_all.deb "$target"
rm -rf "$work"
ls "$target"/popular_*_all.deb
