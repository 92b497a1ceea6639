#!/bin/sh
# Install for the interpreter PYTHON: install.sh VENV DESTDIR PREFIX.  For administrators and packagers;
# pip of the virtual environment does it, because Debian's Python comes without one.
#
# What POPular needs beside Python (see setup.cfg) is not brought along: Debian has it as
# python3-configobj, python3-daemon and python3-setproctitle.
set -eu

venv=$1
destdir=$2
prefix=$3
python=$(command -v "${PYTHON:-python3}") || { echo "install: there is no ${PYTHON:-python3}" >&2; exit 1; }

# Debian's Python adds /local to every prefix, unless it is told that a package is being made.
if [ -e /etc/debian_version ] && [ "$python" = /usr/bin/python3 ]; then
    if [ "$prefix" = /usr/local ]; then
        prefix=/usr
    else
        export DEB_PYTHON_INSTALL_LAYOUT=deb
    fi
fi
set -- --prefix "$prefix"
[ -z "$destdir" ] || set -- "$@" --root "$destdir"
rm -rf build    # an earlier build may hold modules that are no more
"$venv/bin/python" -m pip --disable-pip-version-check --python "$python" install -q --no-deps --force-reinstall \
    --no-warn-script-location "$@" .
