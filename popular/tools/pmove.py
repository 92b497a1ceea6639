"""pmove: move a user's mailbox from the store on this host to another one, while both serve.

    pmove [OPTION]... --switch COMMAND USER STORE

Runs in its own process; nothing else imports it.  `pmigrate.handover` does the move; this finds the mailbox by the
database modules of pproxy, and marks what is left here for pclean.  Whatever ends it, the same command continues.
Exit codes:

     0  the mailbox is at the store
     1  it is not, and why is told
    64  wrong command line
    70  an unexpected error
"""

import argparse
import os
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from popular.addresses import Endpoint, parse_endpoint
from popular.config.parser import Parser
from popular.errors import PopularError, StoreError
from popular.paths import CONFDIR, MOVEDIR, SPOOLDIR
from popular.pdm.api import HELD
from popular.stderr import complain_as
from popular.store.folders import sync_folder
from popular.store.mailbox import Mailbox
from popular.store.removal import MARKER, marked_at
from popular.tools.pmigrate.apart import run_apart
from popular.tools.pmigrate.handover import OnDemandMover, SwitchNote
from popular.tools.pmigrate.job import MoveCommand, MoveJob, MoveOptions, MoveResult, MoveVerdict
from popular.tools.pmigrate.main import add_switch_options, lmtp_place, number
from popular.tools.pmigrate.moving import Mover, why_failed
from popular.tools.pmigrate.report import Report
from popular.tools.pmigrate.targets.remote import note_of
from popular.tools.printing import main_of
from popular.tools.screen import Screen
from popular.unix.rights import acting_as, own_rights, rights_of_owner
from popular.version import VERSION

_NOT_MOVED = 1    # exit code
_LMTP_PORT = 24

_complain = partial(complain_as, "pmove")


@dataclass(frozen=True, slots=True)
class _Place:
    """What the database says of the user, and the configuration of the store."""

    backend: str      # where the mailbox is; HELD: nobody gets in
    mailbox: str
    is_moving: bool
    address: str      # of that backend; empty for HELD
    store: Endpoint


def main() -> int:
    """Run `pmove`; return its exit code."""
    return main_of(run, _NOT_MOVED)


def run(argv: Sequence[str]) -> int:
    """Move the mailbox that `argv` names; return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        place = _place(arguments)
        return _move(arguments, place)
    except (PopularError, OSError) as why:
        _complain(f"{arguments.user!a}: {why_failed(why)}")
        return _NOT_MOVED


def _move(arguments: argparse.Namespace, place: _Place) -> int:
    """Move it, or go on with that; raises StoreError."""
    mailbox = Mailbox(os.path.abspath(arguments.mailboxdir), place.mailbox)
    options = _options(arguments, place)
    screen = Screen()
    report = Report(MoveCommand.MOVE, screen, None, is_brief=False, is_dry=arguments.dry_run)
    job = MoveJob(f"popular:{mailbox.name}", mailbox.name, arguments.user)
    if not _has_begun(options, mailbox):
        if place.backend == arguments.store and not place.is_moving:
            screen.line(f"{mailbox.name}: is at {arguments.store} already")
            return os.EX_OK
        _prove_here(arguments, place)
        if marked_at(mailbox.path) is not None:
            raise StoreError(f"{mailbox.path} is marked for removal")
    mailbox.check()
    result = OnDemandMover(options, screen.show).move(job)
    if result.verdict is MoveVerdict.DONE and not arguments.dry_run:
        result = _leave(arguments, options, mailbox, job, result)
    report.add(job, result)
    return os.EX_OK if report.is_clean else _NOT_MOVED


def _has_begun(options: MoveOptions, mailbox: Mailbox) -> bool:
    """Tell whether an earlier run has held the user, and has not come to its end; raises OSError."""
    try:
        return os.stat(SwitchNote.path_of(options.state, mailbox.name)).st_size > 0
    except FileNotFoundError:
        return False


def _leave(arguments: argparse.Namespace, options: MoveOptions, mailbox: Mailbox, job: MoveJob,
           result: MoveResult) -> MoveResult:
    """Mark the mailbox here, and take along what has come to it until then.

    What comes afterwards is seen by pclean, which then keeps the mailbox.
    """
    if not arguments.keep:
        _mark(mailbox)
    late = Mover(replace(options, command=MoveCommand.COPY)).move(job)
    if late.verdict is not MoveVerdict.DONE:
        return replace(late, remarks=(*late.remarks, "the store serves the user, but has not all mail: try again"))
    _forget(options, mailbox)
    remark = "is kept here" if arguments.keep else "is marked here, for pclean"
    return replace(result, brought=result.brought + late.brought, octets=result.octets + late.octets,
                   remarks=(*result.remarks, remark))


def _mark(mailbox: Mailbox) -> None:
    """Mark the mailbox for removal, on disk; raises OSError."""
    rights = own_rights() if os.geteuid() != 0 else rights_of_owner(os.stat(mailbox.path))
    with acting_as(rights):
        os.close(os.open(f"{mailbox.path}/{MARKER}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        sync_folder(mailbox.path)


def _forget(options: MoveOptions, mailbox: Mailbox) -> None:
    """Remove the notes: the mailbox may come back, and move again."""
    with closing(SwitchNote(options.state, mailbox.name)) as note:
        try:
            os.unlink(note_of(options.state, mailbox.name))
        except FileNotFoundError:
            pass
        note.remove()


def _prove_here(arguments: argparse.Namespace, place: _Place) -> None:
    """Raise StoreError unless the mailbox is at a backend of this host, and can be moved from there."""
    if place.is_moving:
        raise StoreError(f"is being moved by something else: `from` is {place.backend}")
    if place.backend not in arguments.backend and (arguments.backend or not _is_own(place.address)):
        raise StoreError(f"is at backend {place.backend}, not here; if it is, give -b {place.backend}")


def _is_own(address: str) -> bool:
    """Tell whether an address is one of this host."""
    try:
        host = parse_endpoint(address).host
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, where in found:
            with socket.socket(family, kind, protocol) as sock:
                sock.bind(where)
    except (OSError, ValueError):
        return False
    return True


def _place(arguments: argparse.Namespace) -> _Place:
    """Ask the database modules in a process of its own; raises StoreError."""
    backend, mailbox, moving, address, store = run_apart(partial(_ask, arguments)).split("\n")
    return _Place(backend, mailbox, bool(moving), address, parse_endpoint(store))


def _ask(arguments: argparse.Namespace) -> str:
    """Return the lines of a place; this process has pproxy's rights afterwards.  Raises PopularError."""
    from popular.names import is_mailbox
    from popular.tools.pdeliver.user import MAIL_STORES, UserToFind, ask_configured    # load pproxy's settings

    config, found = ask_configured(UserToFind(arguments.config, arguments.user, arguments.namespace, ()))
    backends = {item.ident: item.values for item in config.items("backend")}
    for ident in (arguments.store, *([found.backend] if found.backend != HELD else [])):
        if ident not in backends or backends[ident].text("protocol") not in MAIL_STORES:
            raise StoreError(f"backend {ident!a} is none of those with mailboxes")
    if not is_mailbox(found.mailbox):
        raise StoreError("the database names no mailbox")
    addresses = ["" if ident == HELD else str(backends[ident].endpoint("address"))
                 for ident in (found.backend, arguments.store)]
    return "\n".join([found.backend, found.mailbox, "moving" * found.is_moving, *addresses])


def _options(arguments: argparse.Namespace, place: _Place) -> MoveOptions:
    """Return how the mailbox is moved."""
    return MoveOptions(
        MoveCommand.MOVE, os.path.abspath(arguments.mailboxdir),
        to=arguments.to or Endpoint(place.store.host, _LMTP_PORT), state=arguments.state, is_dry=arguments.dry_run,
        pop3=f"xpop://{place.store}", timeout=arguments.timeout, wait=arguments.wait, switch=arguments.switch,
        settle=arguments.settle, statefile=arguments.statefile, store=arguments.store)


def make_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(
        prog="pmove", allow_abbrev=False, add_help=False,
        description="Move a user's mailbox from the store on this host to another one.",
        epilog="Exit code: 0 the mailbox is at the store; 1 it is not; 64 wrong usage.")
    parser.add_argument("user", metavar="USER", help="as a client sends it (required)")
    parser.add_argument("store", metavar="STORE", help="the backend to which it moves (required)")
    add_switch_options(parser)
    parser.add_argument("-b", "--backend", action="append", default=[], metavar="BACKEND",
                        help="a backend whose mailboxes are here; may be repeated (default those with an address of "
                             "this host)")
    parser.add_argument("-c", "--config", default=f"{CONFDIR}/pproxy.conf", metavar="FILE",
                        help=f"the INI file of pproxy (default {CONFDIR}/pproxy.conf)")
    parser.add_argument("-d", "--mailboxdir", default=SPOOLDIR, metavar="DIR",
                        help=f"the spool (default {SPOOLDIR})")
    parser.add_argument("-n", "--namespace", default="", metavar="NS", help="the namespace of the user")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument("--keep", action="store_true", help="do not mark the mailbox here for pclean")
    parser.add_argument("--state", default=MOVEDIR, metavar="DIR",
                        help=f"where it is remembered what was done (default {MOVEDIR})")
    parser.add_argument("--timeout", type=number(1, 86400), default=60, metavar="SECONDS",
                        help="wait for an answer of a server, and for the command (default 60)")
    parser.add_argument("--to", type=lmtp_place, metavar="lmtp:PLACE",
                        help=f"plmtpd of the store (default port {_LMTP_PORT} at the address of the backend)")
    parser.add_argument("--wait", type=number(0, 86400), default=300, metavar="SECONDS",
                        help="wait for sessions to end, and for servers that are away (default 300)")
    parser.add_argument("--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="version", version=f"pmove {VERSION}")
    return parser
