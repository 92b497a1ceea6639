"""A POP3 server in the test's own process: a real Wire over a socket pair, a maildrop in memory.

The code that runs is that of the daemons' children; only accepting, logging and disks are missing.
"""

import io
import socket
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import BinaryIO

from popular.errors import CommitError, Gone, LoginRefused, MessageGone
from popular.net.wire import Wire
from popular.pop3 import capability
from popular.pop3.authorization import AuthorizationState
from popular.pop3.dialogue import Dialogue
from popular.pop3.exchange import MAX_SASL_LINE
from popular.pop3.languages import speak
from popular.pop3.maildrop import EmptyMaildrop, Entries
from popular.pop3.transaction import TransactionState
from popular.pop3.xpop import read_preamble
from popular.pproxy.vserv.offer import DEFAULT_MECHANISMS, Offer
from popular.sasl.mechanism import Credentials
from tests.harness.transcript import PATIENCE, Transcript

USERS: dict[str, bytes] = {
    "joe": b"secret",
    "two words": b"secret",
    "spaces": b" two  spaces ",
    "blank": b" ",
    "eightbit": b"p\xe4ss\xf6\xff",
    "j\u00f6rg": b"secret",
}
MAXTRIES = 3
MAXERRORS = 5


class MemoryMaildrop:
    """A maildrop whose disk is a list; can be told to fail."""

    def __init__(self, messages: Sequence[bytes], *, master: bool = False) -> None:
        self.messages = list(messages)
        self.master = master
        self.gone: set[int] = set()             # removed by another session
        self.stuck: set[int] = set()            # that cannot be removed
        self.seen: set[int] = set()             # that lie in cur/
        self.arrived = 0
        self.commits = 0
        self.closed = False
        self.openers: dict[int, Callable[[], BinaryIO]] = {}      # instead of the message
        self._entries = Entries([len(message) for message in messages],
                                [f"uid{index + 1}" for index in range(len(messages))])

    @property
    def entries(self) -> Entries:
        return self._entries

    def open(self, index: int) -> BinaryIO:
        if index in self.gone:
            raise MessageGone("no such file")
        return self.openers[index]() if index in self.openers else io.BytesIO(self.messages[index])

    def last_read(self) -> int:
        return max((index + 1 for index in self.seen - self.gone), default=0)

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        self.commits += 1
        failed = deleted & self.stuck
        self.gone |= deleted - failed
        if not self.master:
            self.seen |= read
        if failed:
            raise CommitError(len(failed), len(deleted), "permission denied")

    def close(self) -> None:
        self.closed = True

    def disk(self) -> dict[str, int]:
        """Count what a Maildir would hold."""
        left = set(range(len(self.messages))) - self.gone
        return {"new": len(left - self.seen) + self.arrived, "cur": len(left & self.seen)}


class NoMeans:
    """What mechanisms get who need nothing."""

    def salt(self, credentials: Credentials) -> bytes:
        raise AssertionError(f"{credentials.mechanism} is not offered")

    def certified_user(self) -> str:
        return "joe"

    def stamp(self) -> str:
        return "<1896.697170952@postoffice.reston.mci.net>"    # of RFC 2195


class Conversation:
    """A server function at one end of a socket pair, in a thread; the test holds the other end."""

    def __init__(self, serve: Callable[[Wire], object]) -> None:
        self.sock, theirs = socket.socketpair()
        self.wire = Wire(theirs, idle=PATIENCE)
        self.said = b""
        self.result: object = None
        self.error: BaseException | None = None
        self._serve = serve
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._serve(self.wire)
        except BaseException as error:      # for the test to look at, or to be raised in `end`
            self.error = error
        finally:
            self.wire.linger_close()

    def exchange(self, data: bytes) -> bytes:
        """Send everything and the end of input; return all that the server says until it closes."""
        self.sock.sendall(data)
        self.sock.shutdown(socket.SHUT_WR)
        said = bytearray()
        while more := self.sock.recv(65536):
            said += more
        self.end()
        self.said = bytes(said)
        return self.said

    def end(self) -> None:
        """Wait for the server's end; raises what it raised, unless that is Gone."""
        self.sock.close()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "the server function does not end"
        if self.error is not None and not isinstance(self.error, Gone):
            raise self.error


class MemoryStage:
    """The stage of one transcript in memory."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.maildrop = MemoryMaildrop(transcript.messages, master="M" in transcript.flags)
        state = transcript.name.split("/")[0]
        self.conversation = Conversation({"authorization": self.authorization, "xpop": self.xpop}.get(state, self.mail))
        self.sock = self.conversation.sock

    def authorization(self, wire: Wire) -> None:
        """Be a proxy whose users have no mail."""
        dialogue = Dialogue(wire, maxerrors=MAXERRORS, maxline=wire.maxline)
        wire.reply(True, "ready")
        offer = Offer(DEFAULT_MECHANISMS, frozenset())
        mechanisms = offer.names(needs_tls=False, is_certified=False)
        caps = capability.with_sasl(capability.AUTHORIZATION, mechanisms)
        wire.maxline = MAX_SASL_LINE
        for _ in range(MAXTRIES):
            credentials = dialogue.run(AuthorizationState(
                wire, caps, mechanisms=mechanisms, begin=lambda name: offer.begin(name, NoMeans())))
            if not isinstance(credentials, Credentials):
                return
            if USERS.get(credentials.user) == credentials.password and not credentials.master:
                wire.reply(True, "0 messages (0 octets)")
                dialogue.run(TransactionState(wire, EmptyMaildrop()))
                return
            wire.reply(False, "Authentication failed", "AUTH")
        raise Gone("too many refused logins")

    def xpop(self, wire: Wire) -> None:
        """Be a server of one mailbox, from the preamble."""
        try:
            preamble = read_preamble(wire)
            if preamble.mailbox != "box":
                raise LoginRefused("no such mailbox", code="SYS/PERM", why=preamble.mailbox)
        except LoginRefused as why:
            wire.reply(False, why.text, why.code)
            return
        self.maildrop.master = preamble.master
        if preamble.language:
            speak(wire, preamble.language)
        wire.reply(True, "mailbox open")
        self.mail(wire)

    def mail(self, wire: Wire) -> None:
        """Be a server of one mailbox, after the login."""
        try:
            Dialogue(wire, maxerrors=MAXERRORS).run(TransactionState(wire, self.maildrop))
        finally:
            self.maildrop.close()

    def remove(self, number: int) -> None:
        self.maildrop.gone.add(number - 1)

    def deliver(self, message: bytes) -> None:
        self.maildrop.arrived += 1

    def disk(self) -> dict[str, int]:
        return self.maildrop.disk()


class MemoryCarrier:
    """Plays every transcript tagged `memory`."""

    def plays(self, transcript: Transcript) -> bool:
        return "memory" in transcript.tags

    @contextmanager
    def stage(self, transcript: Transcript) -> Iterator[MemoryStage]:
        stage = MemoryStage(transcript)
        try:
            yield stage
        finally:
            stage.conversation.end()
