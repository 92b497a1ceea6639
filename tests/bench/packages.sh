#!/bin/sh
# Get the servers that the benchmark compares with: on Debian, as root; no service of theirs is started or enabled.
# Everyone else measures what there is, and is told in one line each what is missing.
set -eu

policy=/usr/sbin/policy-rc.d

missing() {
    [ -x /usr/lib/dovecot/pop3 ] || [ -x /usr/libexec/dovecot/pop3 ] || echo dovecot-pop3d
    [ -x /usr/lib/dovecot/lmtp ] || [ -x /usr/libexec/dovecot/lmtp ] || echo dovecot-lmtpd
    [ -x /usr/sbin/nginx ] || echo nginx-light
    [ -e /usr/lib/nginx/modules/ngx_mail_module.so ] || echo libnginx-mod-mail
    [ -x /usr/sbin/haproxy ] || echo haproxy
    [ -x /usr/sbin/perdition ] || echo perdition
}

wanted=$(missing | tr '\n' ' ')
[ -n "$wanted" ] || exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0

echo "bench: installing $wanted" >&2
# invoke-rc.d and deb-systemd-invoke ask this program before they start a service.
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -qq >/dev/null || true
# One by one: what a release no longer has must not keep the others away.
for package in $wanted; do
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        echo "bench: $package cannot be installed" >&2
done
[ -d /run/systemd/system ] || exit 0
for unit in dovecot.service dovecot.socket nginx.service haproxy.service perdition.service; do
    case " $wanted " in
    *" ${unit%%.*}"*) systemctl disable -q "$unit" || true ;;
    esac
done
