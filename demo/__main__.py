"""`make run`: start the system below ./run, show its sessions, stay up until Ctrl-C (`--once`: end)."""

import argparse
import fcntl
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo.accounts import ACCOUNTS, MASTER_PASSWORD, ORG
from demo.databases import DEFAULT, names
from demo.journal import session_lines
from demo.scenes import scenes
from demo.screen import Screen
from demo.servers import Missing, NotStarted
from demo.service import MailSystem
from demo.site import Site
from tests.harness.daemon import ROOT, StartFailed


def main() -> int:
    """Run the demo; returns its exit code."""
    parser = argparse.ArgumentParser(prog="make run", description="A complete mail system, shown at work.")
    parser.add_argument("--once", action="store_true", help="end after the sessions")
    parser.add_argument("--database", metavar="NAME", choices=names(), default=DEFAULT,
                        help=f"where the users are: {', '.join(names())} (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=ROOT / "run", help="where it may write")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    signal.signal(signal.SIGTERM, _end)
    screen = Screen()
    _take(folder)
    try:
        with MailSystem(Site(folder), options.database) as system:
            show(system, screen)
            if not options.once:
                stay(system, screen)
        screen.say()
    except Missing as why:
        print(why, file=sys.stderr)
        return os.EX_UNAVAILABLE
    except (StartFailed, NotStarted) as why:
        print(why, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        screen.say()
    screen.say(f"Ended.  Logs, settings and mail are in {_short(folder)}.")
    return 0


def show(system: MailSystem, screen: Screen) -> None:
    """Deliver the mail and play every session, followed by its log lines."""
    letters = system.deliver_all()
    screen.say(f"POPular runs below {_short(system.site.folder)}: pcheckd, pserv and pproxy.")
    screen.say(f"The POP3 backend is {system.elsewhere_is}.")
    screen.say(f"pdeliver delivered {letters} messages for {len(ACCOUNTS)} accounts in two namespaces.")
    if system.database != DEFAULT:
        screen.say(f"The database module {system.database} finds the users.")
    for number, scene in enumerate(scenes(system.database), 1):
        client = scene.play(system.pproxy.endpoint("org"), screen, number)
        for line in session_lines(system.pproxy, [system.pserv], client):
            screen.log(line)
        if scene.account.mailbox:
            new, read = system.site.count(scene.account.mailbox)
            screen.log(f"On disk now: {new} new, {read} read.")


def stay(system: MailSystem, screen: Screen) -> NoReturn:
    """Show how to connect, and wait for Ctrl-C."""
    screen.title("It stays up until Ctrl-C")
    for vserv in ("org", "net"):
        endpoint = system.pproxy.endpoint(vserv)
        namespace = f"example.{vserv}"
        screen.say(f"  {namespace}: telnet {endpoint.host} {endpoint.port}   or   "
                   f"curl pop3://{endpoint}/ -u USER:PASSWORD")
        for account in ACCOUNTS:
            if account.namespace == namespace:
                screen.say(f"      {account.name}, password {account.password}")
    screen.say(f"  In {ORG} the password {MASTER_PASSWORD} opens every mailbox, and read mail stays new.")
    screen.say(f"  Logs: {_short(system.site.folder)}/log, settings: {_short(system.site.folder)}/etc")
    while True:
        signal.pause()


def _take(folder: Path) -> None:
    """Claim the folder until this process ends; exits if it belongs to another user or is in use."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 and folder.stat().st_uid != os.geteuid():
        sys.exit(f"{folder} belongs to another user; have it removed first")
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"{folder} is in use by another `make run`")


def _short(path: Path) -> str:
    return f"./{path.relative_to(ROOT)}" if path.is_relative_to(ROOT) else str(path)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
