"""What is run under faults: programs on mailboxes, whose scenes are here, plmtpd, and programs on databases.

Each scene makes a spool anew in a folder of its own, runs one program there, and looks: whatever fails, some things
must be true of the disk and the exit code.
"""

import os
import shutil
import sys
import time
from io import BytesIO
from pathlib import Path

from popular.store.delivery.deliver import deliver
from popular.store.lineends import MailForm
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from tests.faults import BEGIN
from tests.faults.databases import DATABASES
from tests.faults.inject import Fault, strace, with_children
from tests.faults.lmtpscenes import LMTP
from tests.faults.scene import (
    CODE, DOUBLED, LEFT, LOST, MAIL, OLD, STORED, TORN, MailScene, Scene, Seen, is_dead, may_leave)
from tests.harness.daemon import ROOT


class Delivery(MailScene):
    """pdeliver as an MTA runs it; the faults are Python's, from its first call on."""

    name = "pdeliver, Python"
    stdin = MAIL
    options: tuple[str, ...] = ("joe",)
    mailbox = "joe"
    good = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "bin").mkdir()
        shutil.copy(ROOT / "bin" / "pdeliver", folder / "bin")    # now: no other thread may fork while it is written

    def prepare(self) -> None:
        super().prepare()
        Mailbox(str(self.spool), "joe").create()

    def command(self, words: list[str], output: str = "/dev/null") -> list[str]:
        """Put strace where the shell looks for the name of its Python."""
        programs = self.folder / "bin"
        line = strace("-D", *with_children(words), output=output)
        (programs / "pmailbox").write_text(f"#!{' '.join(line)} {sys.executable}\n")
        return self.program(programs)

    def program(self, programs: Path = ROOT / "bin") -> list[str]:
        return [str(programs / "pdeliver"), "-m", str(self.spool), "-l", str(self.folder / "log"), *self.options]

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = Seen()
        if not (self.spool / self.mailbox / "new").exists():
            seen.unless(code == 75, CODE if code else LOST)
            return seen
        found = self.mail(seen, self.mailbox) if (self.spool / self.mailbox / "tmp").exists() else {}
        new = {uid: octets for uid, octets in found.items() if octets != b"old"}
        seen.unless(all(octets == STORED for octets in new.values()), TORN)
        if self.good == 0 and code == 0:
            seen.unless(len(new) == 1, LOST if not new else DOUBLED)
        else:
            seen.unless(code in (75, self.good), CODE)
            may_be_there = fault is not None and fault.is_kill    # it could not say so
            seen.unless(not new or may_be_there, CODE)
        seen.unless(not seen.left or may_leave(fault), LEFT)
        again = deliver(Mailbox(str(self.spool), "joe"), BytesIO(MAIL), MailForm.LF).name
        seen.unless(again not in found, DOUBLED)
        return seen


class ShellOfDelivery(Delivery):
    """The same; the faults are those of the shell that watches Python, from where it has read the script."""

    name = "pdeliver, shell"
    marker = "#!/bin/sh"

    def command(self, words: list[str], output: str = "/dev/null") -> list[str]:
        """Let strace follow no child."""
        return [*strace(*words, output=output), *self.program()]

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = super().check(75 if code < 0 and fault is not None and fault.is_kill else code, output, fault)
        if fault is not None and fault.call == "wait4" and code == 75:    # Python's end was not seen
            seen.wrong = [what for what in seen.wrong if what != CODE]
        return seen


class Creation(Delivery):
    """The mailbox is made first; faults begin when the log is opened."""

    name = "pdeliver --create"
    options = ("--create", "3/2d/jane")
    mailbox = "3/2d/jane"
    marker = "O_APPEND"


class FullMailbox(Delivery):
    """Whatever fails, mail for a full mailbox is not taken."""

    name = "pdeliver, over quota"
    options = ("-Q", "2", "joe")
    good = 1

    def prepare(self) -> None:
        super().prepare()
        self.put(f"joe/new/{OLD}.1_3", b"old")
        self.put(f"joe/cur/{OLD}.2_3", b"old")


class Quit(MailScene):
    """Messages are read, others deleted, then comes QUIT."""

    name = "pserv, session with QUIT"
    marker = BEGIN
    kept = (f"cur/{OLD}.1_20", f"new/{OLD + 1}.1_20", f"new/{OLD + 2}.M5P1.host", f"new/{OLD + 3}.1_20")
    deleted = (f"cur/{OLD + 4}.1_20", f"new/{OLD + 5}.1_20")
    commands = ("RETR 2", "RETR 3", "DELE 5", "DELE 6", "QUIT")

    def prepare(self) -> None:
        super().prepare()
        Mailbox(str(self.spool), "joe").create()
        for place in (*self.kept, *self.deleted):
            self.put(f"joe/{place}", b"Subject: %4d\r\n\r\nx\r\n" % (OLD % 1000))

    def program(self) -> list[str]:
        return [sys.executable, "-m", "tests.faults.session", str(self.spool), "joe", *self.commands]

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = Seen()
        before = self.mail(seen)
        MaildirMaildrop(Mailbox(str(self.spool), "joe")).commit(set(), set())    # the next session completes moves
        found = self.mail(seen)
        seen.unless(found == before, LOST)
        kept, deleted = ([place.partition("/")[2] for place in places] for places in (self.kept, self.deleted))
        seen.unless(set(kept) <= set(found), LOST)
        seen.unless(set(found) <= {*kept, *deleted}, DOUBLED)
        seen.unless(len(set(found.values())) <= 1, TORN)
        was_good = output.count(b"+OK") == len(self.commands)    # QUIT has said that it is done
        seen.unless(not was_good or not set(deleted) & set(found), CODE)
        seen.unless(was_good or fault is not None, CODE)
        seen.unless(code in (0, 71) or is_dead(code, fault), CODE)
        return seen


class Expiry(MailScene):
    """pclean removes old mail and old files of tmp/; faults begin when the log is opened."""

    name = "pclean, old mail"
    marker = "O_APPEND"
    now = int(time.time())

    def prepare(self) -> None:
        super().prepare()
        Mailbox(str(self.spool), "joe").create()
        self.old = [self.put(f"joe/{place}") for place in (
            f"new/{OLD}.1_{len(STORED)}", f"cur/{OLD}.2_{len(STORED)}", "tmp/1.2.M3")]
        os.utime(self.spool / "joe/tmp/1.2.M3", (OLD, OLD))
        self.fresh = [self.put(f"joe/{folder}/{self.now}.{pid}_{len(STORED)}")
                      for pid, folder in enumerate(("new", "new", "cur"))]
        (self.folder / "pclean.conf").write_text("[rule]\n[[joe]]\nmailbox = joe\nread = 9d\nunread = 9d\n")

    def program(self) -> list[str]:
        return [sys.executable, str(ROOT / "bin" / "pclean"), "-c", str(self.folder / "pclean.conf"), "-m",
                str(self.spool), "-l", str(self.folder / "log"), "--user", "root", "--group", "root"]

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = Seen()
        found = self.mail(seen)
        names = {place.rpartition("/")[2] for place in self.fresh}
        seen.unless(names <= set(found), LOST)
        seen.unless(all(octets == STORED for octets in found.values()), TORN)
        left = [place for place in self.old if (self.spool / place).exists()]
        seen.unless(code in (0, 1, 75) or is_dead(code, fault), CODE)
        seen.unless(code != 0 or not left, CODE)
        return seen


class Removal(Expiry):
    """pclean removes a mailbox that is marked."""

    name = "pclean, marked mailbox"

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.spool / "joe", self.spool / "jane")
        (self.spool / "jane/.removed").touch()
        (self.spool / "jane/dovecot-uidlist").touch()
        later = time.time() + 9
        self.old = []
        os.utime(self.spool / "jane/.removed", (later, later))

    def program(self) -> list[str]:
        return [sys.executable, "-c", "import sys, time; from popular.tools.pclean import main; "
                "sys.exit(main.run(sys.argv[1:], lambda: time.time() + 99 * 86400))", *super().program()[2:]]

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = Seen()
        seen.unless(code in (0, 1, 75) or is_dead(code, fault), CODE)
        places = [self.spool / name for name in ("jane", ":removed:jane")]
        there = [place for place in places if place.exists()]
        seen.unless(len(there) <= 1 and not (code == 0 and there), CODE)
        seen.left += len(there)
        if places[0].exists():    # then it is whole
            seen.unless(len(self.mail(seen, "jane")) == 5, LOST)
        return seen


SCENES: tuple[type[Scene], ...] = (
    ShellOfDelivery, Creation, *LMTP, Quit, Expiry, Removal, *DATABASES, Delivery, FullMailbox)
