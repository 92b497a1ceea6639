"""Default places of files, as in the original (spec 0.4); options and settings override them.

Used by the starters and the tools, `sqlite_uri` by children and database modules.  Nothing here touches the disk except
`pdm_dir`.
"""

import os
import sys

CONFDIR = "/etc/popular"
CAPADIR = "/etc/popular/capa"
LOGDIR = "/var/log/popular"
RUNDIR = "/var/run/popular"
RINGSOCKET = "ringd.sock"    # in the run folder
SPOOLDIR = "/pop"
SMTPFILE = "/var/lib/popular/smtpafterpop/clients.db"    # ours: where the original had it is not known


def package_path() -> str:
    """Return the folder that this package lies in: an entry of sys.path, but for editable installations."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def pdm_dir() -> str:
    """Return the folder of the database modules.

    In a checkout that is `pdm_modules` beside the package, else `PREFIX/lib/popular`, where the package
    itself lies in `PREFIX/lib/pythonX.Y/site-packages` or, as on Debian, `dist-packages`.
    """
    above = package_path()
    beside = os.path.join(above, "pdm_modules")
    if os.path.isdir(beside):
        return beside
    installed = os.path.join(os.path.dirname(os.path.dirname(above)), "popular")
    return installed if os.path.isdir(installed) else os.path.join(sys.prefix, "lib", "popular")


def sqlite_uri(path: str, mode: str) -> str:
    """Return what SQLite opens a database by that is there: `ro` to read it, `rw` to write it, too."""
    name = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file://{name}?mode={mode}"
