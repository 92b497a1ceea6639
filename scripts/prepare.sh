#!/bin/sh
# Get what the tests of real clients and servers need.  PYTHON is the interpreter that runs the tests.
#
# Root on a Debian system: the missing packages are installed, and no service of theirs is started or
# enabled (the tests start a Dovecot of their own).  Everyone else is told what will be skipped.
#
# Of the two mail transfer agents Debian lets only one be installed.  That is Postfix, unless there is another one
# already; Exim is unpacked in the user's cache.
set -eu

python=${PYTHON:-python3}
policy=/usr/sbin/policy-rc.d
exim=exim4-daemon-light
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/popular-tests
exim_folder=$cache/exim
courier='courier-pop'
courier_folder=$cache/courier
courier_program=usr/lib/courier/courier/courierpop3d

say() { echo "tests: $*" >&2; }

has_samples() { "$python" -c 'import test.test_email' 2>/dev/null; }

# Only Debian's own interpreter takes its test package from Debian.
samples_package() {
    "$python" -c 'import sys; sys.exit(sys.base_prefix != "/usr")' &&
        "$python" -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])'
}

# Another mail server of the machine's own is not replaced.
has_postfix_sqlite() {
    [ -e /usr/lib/postfix/postfix-sqlite.so ] || { [ -e /usr/sbin/sendmail ] && [ ! -e /usr/sbin/postfix ]; }
}

missing() {
    [ -x /usr/lib/dovecot/pop3 ] || [ -x /usr/libexec/dovecot/pop3 ] || echo dovecot-pop3d
    [ -x /usr/lib/dovecot/lmtp ] || [ -x /usr/libexec/dovecot/lmtp ] || echo dovecot-lmtpd
    command -v fetchmail >/dev/null || echo fetchmail
    command -v mpop >/dev/null || echo mpop
    command -v getmail >/dev/null || echo getmail6
    command -v curl >/dev/null || echo curl
    perl -MNet::POP3 -e 1 2>/dev/null || echo perl
    perl -MAuthen::SASL -e 1 2>/dev/null || echo libauthen-sasl-perl
    perl -MAuthen::SCRAM -e 1 2>/dev/null || echo libauthen-scram-perl
    perl -MIO::Socket::SSL -e 1 2>/dev/null || echo libio-socket-ssl-perl
    command -v mutt >/dev/null || echo mutt
    command -v mandoc >/dev/null || echo mandoc
    command -v groff >/dev/null || echo groff
    command -v ip >/dev/null || echo iproute2
    command -v useradd >/dev/null || echo passwd
    command -v adduser >/dev/null || echo adduser
    command -v openssl >/dev/null || echo openssl
    command -v systemd-analyze >/dev/null || echo systemd
    command -v testssl >/dev/null || echo testssl.sh
    command -v socat >/dev/null || echo socat    # which testssl wants
    command -v shellcheck >/dev/null || echo shellcheck
    command -v strace >/dev/null || echo strace
    [ -x /usr/sbin/logrotate ] || echo logrotate
    command -v haproxy >/dev/null || echo haproxy
    [ -x /usr/sbin/nginx ] || echo nginx
    command -v valkey-server >/dev/null || command -v redis-server >/dev/null || redis_or_valkey
    command -v redis-cli >/dev/null || echo redis-tools
    command -v sqlite3 >/dev/null || echo sqlite3
    command -v keepalived >/dev/null || echo keepalived
    command -v fail2ban-regex >/dev/null || echo fail2ban
    command -v postfix >/dev/null || [ -e /usr/sbin/sendmail ] || echo postfix
    has_postfix_sqlite || echo postfix-sqlite
    has_exim || echo $exim
    has_courier || echo $courier
    command -v swaks >/dev/null || echo swaks
    command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || echo mariadb-server-core
    command -v mariadb >/dev/null || echo mariadb-client-core
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql
    [ -x /usr/sbin/slapd ] || echo slapd
    machine_python -c 'import ensurepip' 2>/dev/null || echo python3-venv
    command -v promtool >/dev/null || echo prometheus
    command -v debootstrap >/dev/null || echo debootstrap
    command -v lintian >/dev/null || echo lintian
    [ -x /usr/bin/dpkg-buildpackage ] || echo dpkg-dev
    [ -x /usr/bin/dh ] || echo debhelper
    [ -x /usr/bin/dh_python3 ] || echo dh-python
    [ -e /usr/share/doc/pybuild-plugin-pyproject ] || echo pybuild-plugin-pyproject
    [ -e /usr/share/doc/python3-setuptools ] || echo python3-setuptools
    has_samples || samples_package || true
}

# The README's python3 is that of a system on which nobody has been yet.
machine_python() { PATH=/usr/local/bin:/usr/bin:/bin python3 "$@"; }

# Debian 13 has both; so one is tried on each release.
redis_or_valkey() {
    # shellcheck source=/dev/null
    [ "$(. /etc/os-release && echo "${VERSION_ID:-0}")" = 12 ] && echo redis-server || echo valkey-server
}

has_exim() {
    command -v exim4 >/dev/null && return
    [ -x "$exim_folder/usr/sbin/exim4" ] && ! ldd "$exim_folder/usr/sbin/exim4" | grep -q 'not found'
}

# The unpacked one may be from another system with the same cache; its libraries are partly its own.
has_courier() {
    [ -x "/$courier_program" ] && return
    [ -x "$courier_folder/$courier_program" ] || return
    own=$(find "$courier_folder/usr/lib" -name 'libcourierauth.so.0' -printf '%h:')
    ! LD_LIBRARY_PATH=$own ldd "$courier_folder/$courier_program" | grep -q 'not found'
}

services_of() {
    case $1 in
    dovecot-pop3d | dovecot-lmtpd) echo dovecot.service dovecot.socket ;;
    logrotate) echo logrotate.timer ;;
    postfix | haproxy | keepalived | fail2ban | prometheus | postgresql | nginx | redis-server | valkey-server | slapd) echo "$1.service" ;;
    esac
}

# Packages that conflict with others are not installed, only the libraries that they need.
unpack() {
    folder=$1
    shift
    rm -rf "$folder"
    mkdir -p "$folder"
    (
        cd "$folder"
        for package; do
            apt-get -qq -o APT::Sandbox::User=root download "$package" >/dev/null
            dpkg-deb -x "$package"_*.deb .
            # shellcheck disable=SC2046  # a list of names
            get $(dpkg-deb -f "$package"_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ (|]*\).*/\1/p')
        done
    )
}

get() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "$@" >/dev/null; }

# invoke-rc.d and deb-systemd-invoke ask this program before they start a service.
install_quietly() {
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -qq >/dev/null || true
    case " $1 " in
    *" $exim "*)
        unpack "$exim_folder" "$exim" || return 1
        chmod u-s "$exim_folder/usr/sbin/exim4"    # nobody but the tests shall run it
        ;;
    esac
    case " $1 " in
    *" $courier "*) unpack "$courier_folder" "$courier" courier-authlib || return 1 ;;
    esac
    packages=$(echo " $1 " | sed "s/ $exim / /; s/ $courier / /")
    # shellcheck disable=SC2086  # a list of names
    get $packages || return 1
    for package in $packages; do
        for service in $(services_of "$package"); do
            ! command -v systemctl >/dev/null || systemctl disable -q "$service" 2>/dev/null || true
        done
    done
}

chmod go-w pdm_modules pdm_modules/*.py    # the proxy loads nothing that others can write to

wanted=$(missing | tr '\n' ' ')
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $wanted"
    install_quietly "$wanted" || say "the installation failed"
    wanted=$(missing | tr '\n' ' ')
    [ -n "$wanted" ] || exit 0
fi
say "tests that need these will be skipped (with CI=true they fail): $wanted"
