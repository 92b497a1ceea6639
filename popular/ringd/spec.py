"""The specification of ringd: rows, checks and its service.

Read by the starter and run in ringd itself, which has no children.
"""

import os

from popular.config.mistakes import Mistake
from popular.config.setting import place
from popular.config.store import Config
from popular.daemon.master.single import SingleProcessSpec
from popular.daemon.messages import START
from popular.log.writer import Log
from popular.net.listen import bind_tcp
from popular.paths import RINGSOCKET
from popular.proc.watch import Watch
from popular.ringd.messages import SHUTDOWN_RINGD
from popular.ringd.ports import PortTable
from popular.ringd.service import Service, open_service
from popular.ringd.settings import SCHEMA, PortRanges
from popular.unix.rights import group_name, own_rights
from popular.unix.walls.capabilities import CAP_NET_BIND_SERVICE

_BACKLOG = 256    # until the client sets its own


def check(config: Config) -> list[Mistake]:
    """Return what is wrong with user and group (starter only)."""
    user, group = config.variables.optional_text("user"), config.variables.optional_text("group")
    if user is None:
        return [Mistake(place("ringd"), "'user' is missing: the user that pproxy runs as (option --user)")]
    own = own_rights()
    if own.is_root:
        return []
    mistakes = []
    if user != own.user:
        mistakes.append(Mistake(place("ringd", "user"),
                                f"{user} is not {own.user}, who starts it: only root can choose another"))
    if group is not None and group != group_name(own.gid):
        mistakes.append(Mistake(place("ringd", "group"),
                                f"{group} is not {group_name(own.gid)}, who starts it: only root can choose another"))
    return mistakes


def make_service(config: Config, log: Log, watch: Watch) -> Service:
    """Open the socket; raises StartError."""
    allowed = config.variables["ports"]
    if not isinstance(allowed, PortRanges):
        raise TypeError(f"ports is a {type(allowed).__name__}")
    path = os.path.join(config.variables.text("rundir"), RINGSOCKET)
    return open_service(path, allowed, PortTable(lambda endpoint: bind_tcp(endpoint, _BACKLOG)), log, watch)


SPEC = SingleProcessSpec(
    name="ringd", schema=SCHEMA, check=check, make_service=make_service, start_message=START,
    end_message=SHUTDOWN_RINGD, capabilities=(CAP_NET_BIND_SERVICE,))
