"""What all scenes have: one program that runs in a folder of its own, and a look at what it has left there."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from tests.faults.inject import Fault, faults_of, strace, traced, with_children
from tests.harness.daemon import ROOT

MAIL = b"Subject: x\n\n" + b"A line of some length, so that there is more than one block.\n" * 1500
STORED = MAIL.replace(b"\n", b"\r\n")
OLD = 1_500_000_000    # a time of delivery that rules call old

LOST, TORN, DOUBLED, CODE, LEFT = "lost", "torn", "doubled UIDL", "wrong exit code", "left over"


@dataclass(slots=True)
class Seen:
    """What is wrong, in the words above, and what is no fault but worth a count."""

    wrong: list[str] = field(default_factory=list)
    left: int = 0     # files in tmp/ or beside, which a kill may leave
    twice: int = 0    # messages that are there, and come again because nobody was told so

    def unless(self, truth: bool, what: str) -> None:
        """Note `what` unless something is true."""
        if not truth:
            self.wrong.append(what)


def is_dead(code: int, fault: Fault | None) -> bool:
    """Tell whether a process was killed, or crashed for want of memory, as Python does here and there."""
    return code < 0 and fault is not None and (fault.is_kill or fault.what == "ENOMEM")


def may_leave(fault: Fault | None) -> bool:
    """Tell whether a file may be left in tmp/: by a kill or crash, or because it cannot be removed."""
    return fault is not None and (fault.is_kill or fault.call in ("unlink", "brk", "mmap", "mprotect"))


class Scene:
    """One program in one situation."""

    name = ""
    stdin = b""
    is_variant = False    # of another one; left out of the short form
    marker = ""    # what is in the line of the trace behind which faults begin; empty: at the start

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.environment = {
            "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(folder.parent / "pyc"), "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONHASHSEED": "0", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def prepare(self) -> None:
        """Make the spool as it is before a run."""
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir(parents=True)

    def command(self, words: list[str], output: str = "/dev/null") -> list[str]:
        """Return the command line, with these options for strace."""
        return [*strace(*with_children(words), output=output), *self.program()]

    def program(self) -> list[str]:
        """Return the command line without strace."""
        raise NotImplementedError

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        """Look at what a run has left; without a fault everything must have been done."""
        raise NotImplementedError

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of this scene."""
        trace = self.folder / "trace"
        for _ in range(2):    # first for the caches
            self.prepare()
            text = traced(self.command([], str(trace)), self.stdin, self.environment, trace)
        yield from faults_of(text, self.marker)


class MailScene(Scene):
    """One program on mailboxes."""

    def put(self, place: str, octets: bytes = STORED) -> str:
        """Make a file in the spool and return its place."""
        path = self.spool / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)
        return place

    def mail(self, seen: Seen, mailbox: str = "joe") -> dict[str, bytes]:
        """Return the messages of a mailbox by their ids; what a client cannot be served is noted."""
        maildrop = MaildirMaildrop(Mailbox(str(self.spool), mailbox))
        found: dict[str, bytes] = {}
        for index, entry in enumerate(maildrop.entries):
            with maildrop.open(index) as file:
                octets = file.read()
            seen.unless(entry.uid not in found, DOUBLED)
            seen.unless(len(octets) == entry.size, TORN)
            found[entry.uid] = octets
        seen.left += len(os.listdir(self.spool / mailbox / "tmp"))
        return found
