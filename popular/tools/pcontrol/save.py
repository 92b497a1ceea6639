"""`config save` of pcontrol: write what commands have changed to the INI file, with the rights of pcontrol's user.

The daemon's user may not write there, so the daemon reports what has changed, and pcontrol writes it.  A daemon may
have been compromised: root writes a file for another user's daemon with root's rights only where nobody else can
write, and only values that commands can set, and only to a file of this program; elsewhere with the rights of that
user.  Part of the tool pcontrol; raises NoDaemon.
"""

import os
import pwd
import stat
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from popular.config.changes import Told, changes_from
from popular.config.ini.save import OLD, holds, save, want_good_file
from popular.config.mistakes import ConfigError
from popular.config.setting import Schema
from popular.control.client import ControlClient, Reply
from popular.errors import PopularError, UsageError
from popular.plmtpd.settings import SCHEMA as PLMTPD
from popular.pproxy.settings import SCHEMA as PPROXY
from popular.pserv.settings import SCHEMA as PSERV
from popular.unix.rights import Peer, acting_as, find_rights

SCHEMAS = {schema.program: schema for schema in (PPROXY, PSERV, PLMTPD)}


def save_config(client: ControlClient) -> Reply:
    """Save what has changed, and let the daemon read its file again; return the answer."""
    reply = client.ask("config changes")
    if not reply.ok:
        return reply
    try:
        told = changes_from("".join(reply.lines))
        told = replace(told, path=os.path.realpath(told.path))
        schema = SCHEMAS.get(told.program)
        if schema is None:
            raise UsageError(f"no such program: {told.program!r}")
        with _rights(told, schema, client.peer()):
            want_good_file(told, schema)
            if not told.changes:
                return Reply(True, f"nothing to save: {told.path} has all current values", ())
            path = save(told, schema)
    except ConfigError as why:
        return _refused(f"{why}\n{told.path} cannot be read; nothing was written")
    except OSError as why:
        return _refused(f"{why.filename or told.path}: {why.strerror}; {_hint(told)}")
    except (PopularError, ValueError) as why:
        return _refused(str(why))
    again = client.ask("reload")
    lines = (f"saved in {path}; the old file is {path}{OLD}", *again.lines)
    return Reply(again.ok, again.text, lines)


def _refused(why: str) -> Reply:
    lines = why.splitlines()
    return Reply(False, lines[-1], tuple(lines[:-1]))


def _hint(told: Told) -> str:
    """Return what to do after the system has refused."""
    if os.geteuid() == 0:
        return "nothing was written"
    folder = os.path.dirname(told.path)
    return f"nothing was written; user {_name_of(os.geteuid())} may not write in {folder}: run pcontrol as root"


def _rights(told: Told, schema: Schema, peer: Peer) -> AbstractContextManager[None]:
    """Return a context with the rights to write the file; raises PopularError, OSError."""
    if os.geteuid() != 0 or peer.uid == 0 or not os.path.lexists(told.path):    # without a file nothing is written
        return nullcontext()
    if _is_roots(told.path):
        if told.changes and not holds(told.path, schema):
            raise UsageError(f"{told.path} has no settings yet; write the first ones of {told.program} into it, and "
                             "reload")
        return nullcontext()
    return acting_as(find_rights(_name_of(peer.uid), None))


def _is_roots(path: str) -> bool:
    """Tell whether nobody but root can write to a file or folder, or put another one in its place."""
    status = os.lstat(path)
    is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    above = os.path.dirname(path)
    return status.st_uid == 0 and not is_open and (above == path or _is_roots(above))


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise UsageError(f"there is no user with the id {uid}") from None
