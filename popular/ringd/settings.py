"""The settings of ringd: one row per variable (spec 10.3).

Read by the starter (INI file, options, documents) and by ringd itself.
"""

from dataclasses import replace

from popular.config.kinds import Id
from popular.config.setting import Schema, Setting
from popular.daemon.settings import process_rows
from popular.ringd.ranges import PortRanges, Ports

_POP3_PORTS = PortRanges(((110, 110), (995, 995)))

_OWN_ROWS = {
    "rundir": "The folder for pid file and socket; it is made when it is missing.",
    "user": "The user that may ask for ports, which is pproxy's; required. Started as root, ringd becomes this "
            "user and keeps no right but that to open ports below 1024.",
    "group": "The group that the socket belongs to; the primary group of the user when not set.",
}

_PORT_ROWS = (
    Setting("ports", Ports(), _POP3_PORTS,
            "The ports that may be asked for, such as 110, 995, 8000-8010; each on any address of this host.",
            readonly=True, at_start=True),
)


def _rows() -> tuple[Setting, ...]:
    """Return the rows of every daemon in the words of this one; user has no default here."""
    rows = [replace(row, doc=_OWN_ROWS.get(row.name, row.doc)) for row in process_rows("ringd")]
    return tuple(replace(row, kind=Id(), default=None) if row.name == "user" else row for row in rows)


SCHEMA = Schema("ringd", _rows() + _PORT_ROWS,
                purpose="Opener of low ports, such as 110, for a pproxy that is not root.")
