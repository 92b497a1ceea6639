"""Default paths of files, as in the original (spec 0.4); options and settings override them.

Used by the starters and the tools; children and database modules use `sqlite_uri`.  Only `pdm_dir` accesses the disk.
"""

import os
import sys

CONFDIR = "/etc/popular"
CAPADIR = "/etc/popular/capa"
LOGDIR = "/var/log/popular"
RUNDIR = "/var/run/popular"
RINGSOCKET = "ringd.sock"    # in the run folder
SPOOLDIR = "/pop"
MOVEDIR = "/var/lib/popular/pmove"    # what pmove notes
SMTPFILE = "/var/lib/popular/smtpafterpop/clients.db"    # our choice: the original path is unknown


def package_path() -> str:
    """Return the folder that contains this package: an entry of sys.path, except in editable installations."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def pdm_dir() -> str:
    """Return the folder of the database modules.

    In a checkout that is `pdm_modules` beside the package, else `PREFIX/lib/popular` for a package in
    `PREFIX/lib/pythonX.Y/site-packages` or, as on Debian, `dist-packages`.
    """
    above = package_path()
    beside = os.path.join(above, "pdm_modules")
    if os.path.isdir(beside):
        return beside
    installed = os.path.join(os.path.dirname(os.path.dirname(above)), "popular")
    return installed if os.path.isdir(installed) else os.path.join(sys.prefix, "lib", "popular")


def sqlite_uri(path: str, mode: str) -> str:
    """Return the URI by which SQLite opens an existing database; `mode` is `ro`, or `rw` to write it, too."""
    name = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file://{name}?mode={mode}"
