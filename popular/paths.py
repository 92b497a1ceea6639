"""Default places of files, as in the original (spec 0.4); options and settings override them.

Used by the starters and the tools.  Nothing here touches the disk except `pdm_dir`.
"""

import os
import sys

CONFDIR = "/etc/popular"
CAPADIR = "/etc/popular/capa"
LOGDIR = "/var/log/popular"
RUNDIR = "/var/run/popular"
SPOOLDIR = "/pop"
MASTERAUTH = "/etc/popular/masterauth.conf"


def pdm_dir() -> str:
    """Return the folder of the database modules.

    In a checkout that is `pdm_modules` beside the package, else `PREFIX/lib/popular`.
    """
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pdm_modules")
    return beside if os.path.isdir(beside) else os.path.join(sys.prefix, "lib", "popular")
