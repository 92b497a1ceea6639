"""Scenes of plmtpd: what an MTA says, and what must be true of each answer.

An MTA sends again what was not accepted.  So a message that has no answer may come twice, but only if no answer could
be given; after any other answer than 250 it must not be there.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from socket import SHUT_WR, socketpair

from popular.store.mailbox import Mailbox
from popular.store.uidlist import UIDS_NAME
from tests.faults import BEGIN, lmtp
from tests.faults.inject import Fault, strace
from tests.faults.scene import CODE, DOUBLED, LEFT, LOST, OLD, STORED, TORN, MailScene, Scene, Seen, is_dead, may_leave
from tests.harness.certificates import Authority

HELLO = b"LHLO mta\r\n"
TAKEN = b"250"

_UNSAID = ("sendto", "write", "recvfrom", "read", "poll")    # calls whose failure can end a connection


@dataclass(frozen=True, slots=True)
class LmtpMail:
    """One transaction."""

    mailboxes: tuple[str, ...]
    text: bytes = STORED
    chunks: int = 0                # for BDAT; 0: by DATA
    parameters: str = ""           # of RCPT
    refused: tuple[str, ...] = ()    # mailboxes that cannot take it, even without a fault

    @property
    def octets(self) -> bytes:
        """What the MTA says."""
        commands = ["MAIL FROM:<>", *(f"RCPT TO:<{name}>{self.parameters}" for name in self.mailboxes)]
        said = "".join(f"{command}\r\n" for command in commands).encode()
        if not self.chunks:
            return said + b"DATA\r\n" + self.text.replace(b"\r\n.", b"\r\n..") + b".\r\nRSET\r\n"
        size = -(-len(self.text) // self.chunks)
        parts = [self.text[start:start + size] for start in range(0, len(self.text), size)]
        said += b"".join(b"BDAT %d%b\r\n%b" % (len(part), b" LAST" * (part is parts[-1]), part) for part in parts)
        return said + b"RSET\r\n"

    def heard(self, lines: list[bytes]) -> dict[str, bytes]:
        """Take the answers from the start of `lines`; return the code for each mailbox, as far as it was told."""
        del lines[:1]
        codes = dict(zip(self.mailboxes, (line[:3] for line in _taken(lines, len(self.mailboxes)))))
        named = [name for name, code in codes.items() if code == TAKEN]
        if not self.chunks and [line for line in _taken(lines, 1) if line[:3] != b"354"]:
            lines.clear()    # what follows is about commands that were to be text
        _taken(lines, self.chunks - bool(named) if self.chunks else 0)
        for name in named:
            del codes[name]
        codes |= dict(zip(named, (line[:3] for line in _taken(lines, len(named)))))
        _taken(lines, 1)    # RSET
        return codes


def _taken(lines: list[bytes], number: int) -> list[bytes]:
    found = lines[:number]
    del lines[:number]
    return found


def small(number: int) -> bytes:
    """Return a text of 13 KB that no other number has."""
    return b"Subject: %d\r\n\r\n" % number + b".A line of some length\r\n" * 550


class Lmtp(MailScene):
    """plmtpd delivers a message to three mailboxes; each answer is about one of them."""

    name = "plmtpd, three recipients"
    marker = BEGIN
    mails: tuple[LmtpMail, ...] = (LmtpMail(("joe", "jane", "jim")),)
    settings: tuple[str, ...] = ()
    hello = HELLO
    greetings = 2    # answers before the first transaction

    @property
    def stdin(self) -> bytes:    # type: ignore[override]
        """All that the MTA says."""
        return b"".join([self.hello, *(mail.octets for mail in self.mails), b"QUIT\r\n"])

    @cached_property
    def mailboxes(self) -> list[str]:
        """All that are named."""
        return sorted({name for mail in self.mails for name in mail.mailboxes})

    def prepare(self) -> None:
        super().prepare()
        for name in self.mailboxes:
            Mailbox(str(self.spool), name).create()

    def program(self) -> list[str]:
        return [sys.executable, "-m", "tests.faults.lmtp", str(self.spool), *self.words()]

    def words(self) -> list[str]:
        """The settings of the session."""
        return list(self.settings)

    def command(self, words: list[str], output: str = "/dev/null") -> list[str]:
        """Let strace follow no child: it is the MTA."""
        return [*strace(*words, output=output), *self.program()]

    def stored(self, mail: LmtpMail, mailbox: str) -> bytes:
        """Return what a mailbox gets of a message."""
        return mail.text

    def extra(self, mailbox: str, octets: bytes) -> bool:
        """Tell whether a message may be there besides those that the MTA brings."""
        return False

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = Seen()
        lines = [line for line in output.split(b"\r\n") if line[3:4] != b"-"][self.greetings:-1]
        answers = [mail.heard(lines) for mail in self.mails]
        for mailbox in self.mailboxes:
            is_made = all((self.spool / mailbox / folder).exists() for folder in ("new", "tmp"))
            found = list(self.mail(seen, mailbox).values()) if is_made else []
            texts = [self.stored(mail, mailbox) for mail in self.mails if mailbox in mail.mailboxes]
            seen.unless(all(octets in texts or self.extra(mailbox, octets) for octets in found), TORN)
            for mail, answer in zip(self.mails, answers):
                if mailbox in mail.mailboxes:
                    self.judge(seen, answer.get(mailbox), found.count(self.stored(mail, mailbox)), code, fault)
        if fault is None:
            wanted = [{name: TAKEN for name in mail.mailboxes if name not in mail.refused} for mail in self.mails]
            told = [{name: each for name, each in answer.items() if each == TAKEN} for answer in answers]
            seen.unless(told == wanted and all(len(answer) == len(mail.mailboxes) for answer, mail in zip(
                answers, self.mails)), CODE)
        seen.unless(code in (0, 71) or is_dead(code, fault), CODE)
        seen.unless(not seen.left or may_leave(fault) or code != 0, LEFT)
        return seen

    def judge(self, seen: Seen, answer: bytes | None, number: int, code: int, fault: Fault | None) -> None:
        """Compare what was told with how often the message is there."""
        seen.unless(number <= 1, DOUBLED)
        seen.unless(answer != TAKEN or number == 1, LOST)
        if answer == TAKEN or not number:
            return
        seen.twice += 1
        was_cut = answer is None and (code != 0 or fault is not None and fault.call in _UNSAID)
        stays = fault is not None and fault.call == "unlink"    # synced it could not be, nor removed again
        seen.unless(was_cut or stays, CODE)


class LmtpHeaders(Lmtp):
    """Each recipient has a copy with a header of its own; the text comes in chunks."""

    name = "plmtpd, BDAT and headers"
    is_variant = True
    settings = ("returnpath=1", "deliveredto=1")
    mails = (LmtpMail(("joe", "jane"), chunks=3),)

    def stored(self, mail: LmtpMail, mailbox: str) -> bytes:
        return b"Return-Path: <>\r\nDelivered-To: %b\r\n" % mailbox.encode() + mail.text


class LmtpPipelined(Lmtp):
    """Three messages, sent without waiting for answers."""

    name = "plmtpd, three messages"
    is_variant = True
    mails = tuple(LmtpMail(("joe", "jane"), small(number), chunks=number % 2) for number in range(3))


class LmtpCreation(Lmtp):
    """The mailboxes are made."""

    name = "plmtpd, mailboxes made"
    is_variant = True
    settings = ("missing=create",)
    mails = (LmtpMail(("3/2d/jane", "joe"), small(1), chunks=1),)

    def prepare(self) -> None:
        MailScene.prepare(self)


class LmtpQuota(Lmtp):
    """One mailbox is full, the others are warned of that."""

    name = "plmtpd, over quota"
    is_variant = True
    settings = ("maxnum=2", "quotawarning=50")
    mails = (LmtpMail(("joe", "jane", "jim"), small(1), refused=("joe",)),
             LmtpMail(("joe", "jane"), small(2), chunks=1, refused=("joe", "jane")))

    def prepare(self) -> None:
        super().prepare()
        for number in range(2):
            self.put(f"joe/new/{OLD}.{number}_{len(STORED)}")

    def extra(self, mailbox: str, octets: bytes) -> bool:
        return octets == STORED if mailbox == "joe" else octets.startswith(b"Subject: Your mailbox is 50 % full\r\n")


class LmtpTls(Lmtp):
    """The same in TLS."""

    name = "plmtpd, TLS"
    is_variant = True
    greetings = 1    # what comes before TLS is not printed
    mails = (LmtpMail(("joe", "jane")),)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        pair = Authority.make(folder).sign("127.0.0.1")
        self.pair = folder / "pair.pem"
        self.pair.write_bytes(Path(pair.certificate).read_bytes() + Path(pair.key).read_bytes())

    def words(self) -> list[str]:
        return [f"tls={self.pair}"]


class LmtpTakeover(Lmtp):
    """Mail with unique ids of another server; when it has come again, each message is there, and once."""

    name = "plmtpd, takeover"
    is_variant = True
    settings = ("takeover=192.0.2.1",)
    mails = tuple(
        LmtpMail((name,), small(number), 1, f" XUIDL={name}{number} XRECEIVED={OLD + number}{' XSEEN' * (number % 2)}")
        for number in range(2) for name in ("joe", "jane"))

    def prepare(self) -> None:
        super().prepare()
        (self.spool / "joe" / UIDS_NAME).write_bytes(b"popular-uidls 1\njoe7 7.x\njoe0 ")    # a crash has cut it off
        (self.spool / "jane/cur").rmdir()

    def faults(self) -> Iterator[Fault]:
        """Leave out that close(2) fails: strace leaves the list open, and so locked, which no system does."""
        return (fault for fault in super().faults() if fault.call != "close" or fault.is_kill)

    def judge(self, seen: Seen, answer: bytes | None, number: int, code: int, fault: Fault | None) -> None:
        twice = seen.twice
        super().judge(seen, answer, number, code, fault)
        seen.twice = twice

    def check(self, code: int, output: bytes, fault: Fault | None) -> Seen:
        seen = super().check(code, output, fault)
        ours, theirs = socketpair()
        with ours, theirs:
            theirs.sendall(self.stdin)
            theirs.shutdown(SHUT_WR)
            seen.unless(lmtp.serve(ours, self.spool, self.words()) == 0, CODE)
        for mailbox in self.mailboxes:
            found = self.mail(seen, mailbox)
            wanted = {f"{mailbox}{number}": small(number) for number in range(2)}
            seen.unless(set(found) == set(wanted), DOUBLED if set(found) >= set(wanted) else LOST)
            seen.unless(found == wanted, TORN)
        return seen


LMTP: tuple[type[Scene], ...] = (
    Lmtp, LmtpHeaders, LmtpPipelined, LmtpCreation, LmtpQuota, LmtpTls, LmtpTakeover)
