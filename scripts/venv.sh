#!/bin/sh
# Make the virtual environment: venv.sh FOLDER [tests].  PYTHON names the interpreter (3.11 or later).
# It gets what running needs, and with `tests` what tests and checks need instead.  On Debian the venv module, and
# what the drivers of Berkeley DB and LDAP for the tests are compiled with, are packages of their own: root gets them,
# anyone else is told their names.  Only the venv module is indispensable.
set -eu

venv=$1
what=${2:-run}
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

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install() {
    say "installing $*"
    apt-get update -qq >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

need_venv_module() {
    "$1" -c 'import venv, ensurepip' 2>/dev/null && return
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if can_install; then
        install "$package" || die "could not install $package"
    else
        die "$1 cannot make virtual environments; as root: apt-get install $package"
    fi
}

# Tell whether a header is found, by the compiler, or in the folder $2.
has_header() {
    command -v cc >/dev/null && printf '#include <%s>\n' "$1" | cc -E "-I$2" - >/dev/null 2>&1
}

include_of() { "$1" -c 'import sysconfig; print(sysconfig.get_path("include"))'; }

can_build_with() {
    has_headers "$2" && has_header Python.h "$(include_of "$1")"
}

has_headers() {
    for header in $1; do has_header "$header" . || return; done
}

# Only what is missing, so that nothing is upgraded.  Another interpreter than Debian's has its headers with it.
packages_with() {
    has_header stdio.h . || echo gcc libc6-dev
    has_headers "$2" || echo "$3"
    has_header Python.h "$(include_of "$1")" ||
        "$1" -c 'import sys; sys.base_prefix == "/usr" and print("python%d.%d-dev" % sys.version_info[:2])'
}

pip_install() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }

get() { pip_install -e "$1"; }

# What an extra like .[db] requires, without building POPular once more.
get_requirement() {
    pip_install "$("$venv/bin/python" -c '
import configparser, sys
setup = configparser.ConfigParser()
setup.read("setup.cfg")
print(setup["options.extras_require"][sys.argv[1].strip(".[]")])' "$1")"
}

get_db_module() { get_compiled '.[db]' db.h libdb-dev; }

# There are no wheels of python-ldap.
get_ldap_module() {
    "$venv/bin/python" -c 'import ldap' 2>/dev/null ||
        get_compiled '.[ldap]' 'ldap.h sasl/sasl.h' 'libldap-dev libsasl2-dev'
}

# Get an extra that is compiled: get_compiled EXTRA HEADERS PACKAGES.
get_compiled() {
    why=
    if ! can_build_with "$venv/bin/python" "$2"; then
        packages=$(packages_with "$venv/bin/python" "$2" "$3" | tr '\n' ' ')
        # shellcheck disable=SC2086  # a list of names
        if ! can_install; then
            why="it is compiled with ${packages:-the headers of Python}"
        elif ! install $packages; then
            why="these could not be installed: $packages"
        elif ! can_build_with "$venv/bin/python" "$2"; then
            why="$2 or the headers of Python are not found"
        fi
    fi
    if [ -z "$why" ]; then
        get_requirement "$1" && return
        why="pip could not build it"
    fi
    say "the tests that need $1 will be skipped: $why"
}

make_venv() {
    [ -w . ] || die "$(pwd) is not writable for $(id -un); use a clone of your own"
    python=$(find_python)
    if ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        need_venv_module "$python"
        say "making $venv with $("$python" -V)"
        "$python" -m venv --clear "$venv"
    fi
    say "installing POPular and what it needs"
    get .
    touch "$venv/.ready"
}

# Without its C extension pure-cdb needs no compiler where there is no wheel of it.
get_for_tests() {
    say "installing what the tests need"
    ENABLE_DJB_HASH_CEXT=0 get '.[test,bcrypt,argon2,top,pgsql,http,mysql,redis,lmdb,oauth,poauth]'
    get_db_module
    get_ldap_module
    touch "$venv/.tests"
}

case $what in
run) make_venv ;;
tests) get_for_tests ;;
*) die "found '$what', wanted tests or nothing" ;;
esac
