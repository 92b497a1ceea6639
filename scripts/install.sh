#!/bin/sh
# Install for the interpreter PYTHON: install.sh VENV DESTDIR PREFIX [INIT].  For administrators and packagers;
# pip of the virtual environment does it, because Debian's Python comes without one.
#
# The daemons are in PREFIX/sbin, too, as in the original.  /etc/popular gets samples of the INI files, in which
# every line is commented out.  INIT, debian or redhat, adds what the system starts and tends them with: init
# scripts and their settings, logrotate and cron.  Of all these only the init scripts replace what is there.
#
# What POPular needs beside Python (see setup.cfg) is not brought along: Debian has it as
# python3-configobj, python3-daemon and python3-setproctitle.
set -eu

venv=$1
destdir=$2
prefix=$3
init=${4:-}
python=$(command -v "${PYTHON:-python3}") || { echo "install: there is no ${PYTHON:-python3}" >&2; exit 1; }

case $init in
'' | debian | redhat) ;;
*) echo "install: found INIT=$init, wanted debian, redhat or nothing" >&2; exit 1 ;;
esac

# Debian's Python adds /local to every prefix, unless it is told that a package is being made.
if [ -e /etc/debian_version ] && [ "$python" = /usr/bin/python3 ]; then
    if [ "$prefix" = /usr/local ]; then
        prefix=/usr
    else
        export DEB_PYTHON_INSTALL_LAYOUT=deb
    fi
fi
place=$destdir$3
# What was installed in this place is removed first, and nothing else: pip would remove whatever installation the
# interpreter finds, also when it writes to a DESTDIR.
how=--ignore-installed
if [ -z "$destdir" ]; then
    former=$("$python" -I -c 'import importlib.metadata as m; print(m.distribution("popular").locate_file(""))' \
        2>/dev/null) || former=
    case $former in
    "$3"/lib*) how=--force-reinstall ;;
    esac
fi
set -- --prefix "$prefix" "$how"
[ -z "$destdir" ] || set -- "$@" --root "$destdir"
rm -rf build    # an earlier build may hold modules that are no more
"$venv/bin/python" -m pip --disable-pip-version-check --python "$python" install -q --root-user-action ignore --no-deps \
    --no-warn-script-location "$@" .

# A program is called from both places; where sbin is bin there is nothing to do.
link_daemons() {
    mkdir -p "$place/sbin"
    [ "$(cd -P "$place/sbin" && pwd)" != "$(cd -P "$place/bin" && pwd)" ] || return 0
    for daemon in pproxy pserv plmtpd pcheckd ringd; do
        ln -sf "../bin/$daemon" "$place/sbin/$daemon"
    done
}

# Copy the file $1 to $2 unless something is there: it is the administrator's.
offer() { [ -e "$2" ] || [ -h "$2" ] || install -D -m 644 "$1" "$2"; }

install_scripts() {
    for script in "etc/init.d/$init"/*; do
        install -D -m 755 "$script" "$destdir$1/${script##*/}"
    done
    offer etc/default/popular "$destdir$2/popular"
    offer etc/logrotate.d/popular "$destdir/etc/logrotate.d/popular"
    offer etc/cron.d/popular-pclean "$destdir/etc/cron.d/popular-pclean"
}

link_daemons
if mkdir -p "$destdir/etc/popular/capa" 2>/dev/null && [ -w "$destdir/etc/popular" ]; then
    for sample in etc/*.conf; do
        offer "$sample" "$destdir/etc/popular/${sample##*/}"
    done
else
    echo "install: $destdir/etc/popular is not $(id -un)'s; samples are in $place/share/popular" >&2
fi
case $init in
debian) install_scripts /etc/init.d /etc/default ;;
redhat) install_scripts /etc/rc.d/init.d /etc/sysconfig ;;
esac
