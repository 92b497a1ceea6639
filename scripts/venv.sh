#!/bin/sh
# Make the virtual environment: venv.sh FOLDER.  PYTHON names the interpreter (3.11 or later).
# On Debian the venv module is a package of its own: root gets it, anyone else is told its name.
set -eu

venv=$1
python=${PYTHON:-python3}

say() { echo "venv: $*" >&2; }
die() { say "$*"; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in "$python" python3.11 python3.12 python3.13 python3.14; do
        if is_new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    die "no Python 3.11 or later found; say PYTHON=/path/to/python3"
}

need_venv_module() {
    "$1" -c 'import venv, ensurepip' 2>/dev/null && return
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $package"
        apt-get update -qq >/dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
            die "could not install $package"
    else
        die "$1 cannot make virtual environments; as root: apt-get install $package"
    fi
}

# The Berkeley DB module is compiled: it needs a compiler and the headers of libdb and Python.
can_build_db() {
    command -v cc >/dev/null || return 1
    include=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    printf '#include <db.h>\n#include <Python.h>\n' | cc -E "-I$include" - >/dev/null 2>&1
}

[ -w . ] || die "$(pwd) is not writable for $(id -un); use a clone of your own"
python=$(find_python)
if ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    need_venv_module "$python"
    say "making $venv with $("$python" -V)"
    "$python" -m venv --clear "$venv"
fi
say "installing POPular and what it needs"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -e '.[test,bcrypt,argon2]'
if can_build_db "$venv/bin/python"; then
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -e '.[db]' ||
        say "the Berkeley DB module could not be built; the tests of the db module will be skipped"
fi
touch "$venv/.ready"
