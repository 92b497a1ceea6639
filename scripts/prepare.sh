#!/bin/sh
# Get what the tests of real clients and servers need.  PYTHON is the interpreter that runs the tests.
#
# Root on a Debian system: the missing packages are installed, and no service of theirs is started or
# enabled (the tests start a Dovecot of their own).  Everyone else is told what will be skipped.
set -eu

python=${PYTHON:-python3}
policy=/usr/sbin/policy-rc.d

say() { echo "tests: $*" >&2; }

has_samples() { "$python" -c 'import test.test_email' 2>/dev/null; }

# Only Debian's own interpreter takes its test package from Debian.
samples_package() {
    "$python" -c 'import sys; sys.exit(sys.base_prefix != "/usr")' &&
        "$python" -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])'
}

missing() {
    [ -x /usr/lib/dovecot/pop3 ] || [ -x /usr/libexec/dovecot/pop3 ] || echo dovecot-pop3d
    command -v fetchmail >/dev/null || echo fetchmail
    command -v mpop >/dev/null || echo mpop
    command -v getmail >/dev/null || echo getmail6
    command -v curl >/dev/null || echo curl
    perl -MNet::POP3 -e 1 2>/dev/null || echo perl
    command -v mandoc >/dev/null || echo mandoc
    command -v openssl >/dev/null || echo openssl
    command -v testssl >/dev/null || echo testssl.sh
    command -v shellcheck >/dev/null || echo shellcheck
    [ -x /usr/sbin/logrotate ] || echo logrotate
    command -v systemd-sysusers >/dev/null || echo systemd
    has_samples || samples_package || true
}

# invoke-rc.d and deb-systemd-invoke ask this program before they start a service.
install_quietly() {
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -qq >/dev/null || true
    # shellcheck disable=SC2086  # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 >/dev/null || return 1
    case " $1 " in
    *" dovecot-pop3d "*) [ ! -d /run/systemd/system ] || systemctl disable -q dovecot.service dovecot.socket || true ;;
    esac
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
