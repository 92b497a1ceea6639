"""What one delivery costs in pdeliver, plmtpd and Dovecot's LMTP: `python -m tests.bench.delivery [--rounds N]`.

Messages of 4 KiB are delivered by 1 or 16 clients, each sending one after the other, into one mailbox or into many: on
a disk, where each program syncs as it does by default, and on a tmpfs, where a sync costs nothing.  The contenders take
turns, each started anew for its turn.  The least CPU time and the highest rate of all rounds are shown.

The CPU time is that of the whole process tree, counted as cputime.py says.  The clients are threads of this process,
whose own time is not counted.  An LMTP client sends ten messages in a connection, as an MTA with a queue.  Nothing here
is a timed test.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from popular.addresses import Endpoint
from popular.store.mailbox import Mailbox
from tests.bench.cputime import Meter, make_meter
from tests.harness.daemon import ROOT, Daemon, Settings
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.lmtpclient import LmtpClient
from tests.harness.system import adopt_orphans

MANY = 100                # mailboxes
IN_A_CONNECTION = 10      # messages
_LINE = b"At eight, as always, at the usual place, or a bit later? \r\n"
MESSAGE = b"From: Ann <ann@example.net>\r\nMessage-ID: <1@example.net>\r\nSubject: Dinner\r\n\r\n"
MESSAGE = (MESSAGE + _LINE * 80)[:4094] + b"\r\n"
_ENVELOPE = "MAIL FROM:<ann@example.net>\r\nRCPT TO:<{}>\r\nDATA\r\n"
_LMTP_OF_DOVECOT = """\
protocols = pop3 lmtp
mail_fsync = optimized
{any_number_of_deliveries}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
"""

Send = Callable[[str], None]                           # a message to a user
Connect = Callable[[], AbstractContextManager[Send]]   # what a client does for some messages


@dataclass(frozen=True, slots=True)
class Running:
    """A contender at work."""

    connect: Connect
    folders: tuple[Path, ...]    # new/ of the mailboxes
    is_server: bool = True       # so it is warm after some messages


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: what is measured of each contender."""

    clients: int
    mailboxes: int
    place: str    # disk or tmpfs

    def __str__(self) -> str:
        return f"{self.clients} at once, {'one mailbox' if self.mailboxes == 1 else 'many'}, {self.place}"


@dataclass(frozen=True, slots=True)
class Turn:
    """What was measured in one turn."""

    cost: float    # CPU seconds per 1,000 messages
    rate: float    # messages a second


KINDS = tuple(Kind(clients, mailboxes, place) for place, sizes in (("disk", (1, MANY)), ("tmpfs", (MANY,)))
              for mailboxes in sizes for clients in (1, 16))


@contextmanager
def pdeliver(folder: Path, users: Iterable[str]) -> Iterator[Running]:
    """Have pdeliver started for each message."""
    folders = _make_spool(folder, users)
    text = folder / "message"
    text.write_bytes(MESSAGE)
    command = [str(ROOT / "bin/pdeliver"), "--format", "CRLF", "--mailboxdir", str(folder / "spool"), "--logfile",
               str(folder / "log")]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}

    def send(user: str) -> None:
        with text.open("rb") as stdin:
            subprocess.run([*command, user], stdin=stdin, check=True, env=env)

    yield Running(lambda: nullcontext(send), folders, is_server=False)


@contextmanager
def plmtpd(folder: Path, users: Iterable[str]) -> Iterator[Running]:
    """Start plmtpd with its default settings."""
    folders = _make_spool(folder, users)
    (folder / "users").write_text("".join(f"{user}:{{PLAIN}}x:store1:cxpop:{user}\n" for user in users))
    (folder / "users").chmod(0o600)
    settings: Settings = {"plmtpd": {"mailboxdir": folder / "spool"},
                          "pdm": {"users": {"module": "passwd", "args": f"{folder}/users"}},
                          "server": {"main": {"address": f"unix:{folder}/lmtp"}}}
    with Daemon.start("plmtpd", settings, folder) as daemon:
        yield Running(partial(_connect, daemon.endpoint("main")), folders)


@contextmanager
def dovecot(folder: Path, users: Iterable[str]) -> Iterator[Running]:
    """Start Dovecot; raises NoDovecot."""
    if not any(Path(libexec, "dovecot/lmtp").exists() for libexec in ("/usr/lib", "/usr/libexec")):
        raise NoDovecot("Dovecot's LMTP server (dovecot-lmtpd) is not installed")
    with Dovecot.start(folder, dict.fromkeys(users, "x"), more=_LMTP_OF_DOVECOT) as running:
        yield Running(partial(_connect, Endpoint(str(folder / "lmtp"), 0)),
                      tuple(running.maildir(user) / "new" for user in users))


CONTENDERS = {each.__name__: each for each in (pdeliver, plmtpd, dovecot)}


def _make_spool(folder: Path, users: Iterable[str]) -> tuple[Path, ...]:
    (folder / "spool").mkdir()
    for user in users:
        Mailbox(str(folder / "spool"), user).create()
    return tuple(folder / "spool" / user / "new" for user in users)


@contextmanager
def _connect(endpoint: Endpoint) -> Iterator[Send]:
    with LmtpClient(endpoint) as client:
        client.say("LHLO mta.example.org", 250)

        def send(user: str) -> None:
            client.send(_ENVELOPE.format(user).encode())
            client.want(250, 250, 354)
            client.send(MESSAGE + b".\r\n")
            client.want(250)

        yield send
        client.say("QUIT", 221)


def measure(name: str, kind: Kind, parent: Path, seconds: float, meter: Meter) -> Turn:
    """Start a contender in a new folder below `parent` and have it deliver for some time; raises NoDovecot."""
    users = tuple(f"user{number}" for number in range(kind.mailboxes))
    with TemporaryDirectory(prefix="popular-", dir=parent) as made:
        folder = Path(made)
        folder.chmod(0o755)
        with CONTENDERS[name](folder, users) as running:
            begun = _send_all(running.connect, users, kind.clients, 0.0) if running.is_server else 0
            before, began = meter.seconds(), time.monotonic()
            count = _send_all(running.connect, users, kind.clients, seconds)
            took = time.monotonic() - began
            time.sleep(0.1)    # what is put off
            cost = meter.seconds() - before
            stored = sum(len(os.listdir(each)) for each in running.folders)
        if stored != begun + count:
            raise AssertionError(f"{name}: {begun + count} messages were delivered, and {stored} are there")
    return Turn(1000 * cost / count, count / took)


def _send_all(connect: Connect, users: tuple[str, ...], clients: int, seconds: float) -> int:
    """Let clients send for some time, or with 0 until each has sent one, and one to each user; return how many."""
    end = time.monotonic() + seconds
    counts = [0] * clients
    failures: list[BaseException] = []

    def client(number: int) -> None:
        turns = len(range(number, max(clients, len(users)), clients)) if seconds == 0 else sys.maxsize
        try:
            while counts[number] < turns and (seconds == 0 or time.monotonic() < end):
                with connect() as send:
                    for _ in range(min(IN_A_CONNECTION, turns - counts[number])):
                        send(users[(number + counts[number] * clients) % len(users)])
                        counts[number] += 1
        except BaseException as why:
            failures.append(why)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts)


def table(turns: dict[tuple[str, Kind], list[Turn]]) -> str:
    """Return the figures as a table in Markdown, a line for each kind: cost and rate of each contender."""
    names = [name for name in CONTENDERS if any(key[0] == name for key in turns)]
    lines = ["| 4 KiB messages | " + " | ".join(names) + " | " + " | ".join(f"{name}/s" for name in names) + " |",
             "|---|" + "---:|" * 2 * len(names)]
    for kind in KINDS:
        found = [turns[name, kind] for name in names if (name, kind) in turns]
        cells = [f"{min(turn.cost for turn in each):.3g}" for each in found]
        cells += [f"{max(turn.rate for turn in each):,.0f}" for each in found]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.delivery", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="turns of each contender (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, metavar="S", help="length of a turn (%(default)s)")
    parser.add_argument("--disk", default=gettempdir(), metavar="DIR", help="a folder on a disk (%(default)s)")
    parser.add_argument("--tmpfs", default="/dev/shm", metavar="DIR", help="a folder on a tmpfs (%(default)s)")
    options = parser.parse_args(argv)
    adopt_orphans()
    places = {"disk": Path(options.disk), "tmpfs": Path(options.tmpfs)}
    turns: dict[tuple[str, Kind], list[Turn]] = {}
    meter, names = make_meter(), list(CONTENDERS)
    try:
        for number in range(options.rounds):
            for kind in KINDS:
                for name in names[number % len(names):] + names[:number % len(names)]:
                    try:
                        turn = measure(name, kind, places[kind.place], options.seconds, meter)
                    except NoDovecot as why:
                        names.remove(name)
                        print(f"without {name}: {why}", file=sys.stderr)
                        continue
                    turns.setdefault((name, kind), []).append(turn)
                    print(f"{number + 1}: {name}, {kind}: {turn.cost:.3g} ms, {turn.rate:,.0f}/s", file=sys.stderr,
                          flush=True)
    finally:
        meter.close()
    print(f"CPU seconds per 1,000 messages, and messages a second; {options.rounds} rounds of {options.seconds:g} s; "
          f"CPU time by {meter.how}; Python {sys.version.split()[0]} of {sys.base_prefix}\n\n{table(turns)}")


if __name__ == "__main__":
    main()
