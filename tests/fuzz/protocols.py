"""Targets: what comes over the network and over Unix sockets.  Each raises for what must not happen, and only then."""

import contextlib
import math

from popular.addresses import is_ip
from popular.control.answer import ControlAnswer, parse_end, unstuffed
from popular.control.grammar import join_words, split_words
from popular.errors import CommandRefused, Gone, LoginRefused, MailcheckError, UsageError
from popular.lmtp.dialogue import LmtpDialogue, LmtpTerms
from popular.lmtp.grammar import MAX_COMMAND, Recipient, Sender
from popular.lmtp.replies import LmtpReply, Replies
from popular.mailcheck.packet import (
    MailState, is_answer, mail_request, parse_load_answer, parse_mail_answer, parse_mailcheck)
from popular.names import MAX_RESPONSE, is_mailbox, is_sid
from popular.net.httppage import PageServer
from popular.net.proxyheader import MAX_PROXY_HEADER, BadHeader, build_header, read_header
from popular.net.ring.packet import MAX_RING_ANSWER, MAX_RING_REQUEST, canonical, decode_answer, decode_request
from popular.net.wire import Wire
from popular.pdm.api import CHALLENGES, PROVEN
from popular.pdm.proofs import judge
from popular.pop3.authorization import AuthorizationState
from popular.pop3.dialogue import Dialogue
from popular.pop3.response import parse_response
from popular.pop3.transaction import TransactionState
from popular.pop3.xclient import build_xclient, parse_xclient
from popular.pop3.xpop import preamble_lines, read_preamble
from popular.pproxy.spec import SPEC as PPROXY
from popular.pproxy.vserv.offer import DEFAULT_MECHANISMS, MECHANISMS, Offer
from popular.pserv.spec import SPEC as PSERV
from popular.sasl.mechanism import Credentials, Mechanism
from tests.fuzz.stream import MemoryStream
from tests.harness.memory import MemoryMaildrop, NoMeans

MESSAGES = (b"Subject: one\r\n\r\n.dot\r\n", b"no end", b"")


def wire_lines(data: bytes) -> None:
    """Lines of a peer: whatever the pieces, the same lines come, none with a line end or too long."""
    limit, piece, data = data[0] if data else 1, data[1] if len(data) > 1 else 1, data[2:]
    assert _lines(data, limit, piece) == _lines(data, limit, len(data))


def _lines(data: bytes, limit: int, piece: int) -> list[bytes]:
    wire = Wire(MemoryStream(data, piece), idle=1.0, maxline=limit)
    found: list[bytes] = []
    while True:
        try:
            line = wire.readline()
        except CommandRefused:
            found.append(b"refused\n")
        except Gone:
            return found if 0 not in data and b"\n" in data[-1:] else []    # where it ends depends on the pieces
        else:
            assert b"\n" not in line and len(line) <= limit
            found.append(line)


def authorization(data: bytes) -> None:
    """A client before its login: each line has one answer, or credentials come out that could be anybody's."""
    stream, dialogue = _dialogue(data)
    with contextlib.suppress(Gone):
        while (found := dialogue.run(AuthorizationState(
                dialogue.wire, offers_tls=True, mechanisms=DEFAULT_MECHANISMS, begin=_begin,
                timestamp="<1@x>"))) is not None:
            if isinstance(found, Credentials):
                _look_at(found)
    _look_at_answers(stream)


def sasl_exchange(data: bytes) -> None:
    """The responses of a client in the exchange of some mechanism: refused, or credentials that are not right."""
    names = [name for name in MECHANISMS if name != "APOP"]
    mechanism = _begin(names[data[0] % len(names)] if data else "PLAIN")
    with contextlib.suppress(CommandRefused):
        for response in data[1:].split(b"\n"):
            found = mechanism.step(response)
            if isinstance(found, Credentials):
                _look_at(found)
                if found.mechanism in CHALLENGES:
                    assert not judge(found.mechanism, found.password, [("", "{PLAIN}secret")]).is_right
                return


def _begin(name: str) -> Mechanism:
    return _OFFER.begin(name, _Means())


def _look_at(found: Credentials) -> None:
    for name in (found.user, found.master):
        assert not any(sign in name for sign in "\0\r\n") and len(name) <= 255
    assert found.user or found.mechanism
    assert found.mechanism or not any(octet in found.password for octet in b"\0\r\n")


class _Means(NoMeans):
    """Gives everybody the same salt, which costs little."""

    def salt(self, credentials: Credentials) -> bytes:
        return b"1,AAAA"


_OFFER = Offer(MECHANISMS, CHALLENGES | {"OAUTHBEARER", "XOAUTH2", PROVEN})


def transaction(data: bytes) -> None:
    """A client with a mailbox: no message goes but by DELE and QUIT."""
    stream, dialogue = _dialogue(data)
    maildrop = MemoryMaildrop(MESSAGES)
    with contextlib.suppress(Gone):
        dialogue.run(TransactionState(dialogue.wire, maildrop))
    assert not maildrop.gone or (b"DELE" in data.upper() and b"QUIT" in data.upper())
    assert maildrop.commits <= 1


def _dialogue(data: bytes) -> tuple[MemoryStream, Dialogue]:
    stream = MemoryStream(data[1:], data[0] if data else 1)
    return stream, Dialogue(Wire(stream, idle=1.0), maxerrors=25)


def _look_at_answers(stream: MemoryStream) -> None:
    assert not stream.said or stream.said.endswith(b"\r\n")
    assert all(len(line) <= MAX_RESPONSE for line in stream.said.split(b"\r\n"))


class _Everybody:
    """Takes mail for everybody, but not for those in capitals."""

    def __init__(self) -> None:
        self.wanted = 0
        self.text = b""
        self.mails: list[tuple[int, bytes]] = []

    def recipient(self, sender: Sender, recipient: Recipient) -> LmtpReply:
        assert recipient.path or recipient.takeover and recipient.takeover.mailbox
        assert len(recipient.path) <= MAX_COMMAND
        self.wanted += not recipient.address.isupper()
        return Replies.UNKNOWN_USER if recipient.address.isupper() else Replies.RECIPIENT_OK

    def begin(self, sender: Sender) -> None:
        assert self.wanted and not self.text

    def write(self, block: bytes) -> None:
        self.text += block

    def finish(self, size: int) -> list[LmtpReply]:
        assert size == len(self.text)
        self.mails.append((self.wanted, self.text))
        return [Replies.DELIVERED] * self.wanted

    def refuse(self, reply: LmtpReply) -> list[LmtpReply]:
        return [reply] * self.wanted

    def reset(self) -> None:
        self.wanted, self.text = 0, b""


def lmtp_session(data: bytes) -> None:
    """An MTA: whatever the pieces, the same mails come, and each answer is a line with two codes that fit."""
    assert _mails(data[1:], data[0] if data else 1) == _mails(data[1:], len(data))


def _mails(data: bytes, piece: int) -> list[tuple[int, bytes]]:
    stream, receiver = MemoryStream(data, piece), _Everybody()
    with contextlib.suppress(Gone):
        LmtpDialogue(Wire(stream, idle=1.0, maxline=MAX_COMMAND), receiver,
                     LmtpTerms("foo.edu", maxsize=100, maxrecipients=3, takes_over=True)).run()
    for line in bytes(stream.said).split(b"\r\n")[:-1]:
        assert len(line) < MAX_RESPONSE and line.isascii() and line[3:4] in (b" ", b"-")
        assert line[:4] in (b"220 ", b"250-", b"354 ") or line[4:] == b"XTAKEOVER" or line[4:6] == line[:1] + b"."
    assert all(len(text) <= 100 for _, text in receiver.mails)
    return receiver.mails


def xpop_preamble(data: bytes) -> None:
    """A proxy's three lines: what is accepted is well-formed and comes out of `preamble_lines` again."""
    try:
        found = read_preamble(Wire(MemoryStream(data[1:], data[0] if data else 1), idle=1.0))
    except (LoginRefused, Gone):
        return
    assert is_mailbox(found.mailbox) and is_sid(found.sid)
    again = read_preamble(Wire(MemoryStream(preamble_lines(found.mailbox, found.sid, found.master), 4096), idle=1.0))
    assert (again.mailbox, again.sid, again.master) == (found.mailbox, found.sid, found.master)


def proxy_header(data: bytes) -> None:
    """A balancer's header: whatever follows it, and in whatever pieces it comes, it says the same, or is refused."""
    try:
        found = read_header(data)
    except BadHeader:
        assert data, "nothing has come yet"
        return
    if found is None:
        assert len(data) < MAX_PROXY_HEADER
        return
    origin, size = found
    assert 0 < size <= min(len(data), MAX_PROXY_HEADER) and read_header(data[:size]) == found
    for end in {0, 1, size // 2, size - 1}:
        assert read_header(data[:end]) is None
    if origin.client is not None and origin.local is not None:
        assert is_ip(origin.client.host) and is_ip(origin.local.host)
        again = read_header(build_header(origin.client, origin.local))
        assert again is not None and again[0].client == origin.client


def xclient_words(data: bytes) -> None:
    """What a proxy says of its client: it is refused, or names an address, and can be said to the next server."""
    with contextlib.suppress(CommandRefused):
        origin = parse_xclient(data)
        assert origin.client is not None and is_ip(origin.client.host)
        line = build_xclient(origin.client, origin.local or origin.client, "px-1", 4, is_secure=bool(origin.tls))
        again = parse_xclient(line.removeprefix(b"XCLIENT "))
        assert (again.client, bool(again.tls)) == (origin.client, bool(origin.tls))


def backend_answer(data: bytes) -> None:
    """A backend's answer: what goes to the client is one short printable line."""
    with contextlib.suppress(ValueError):
        line = str(parse_response(data))
        assert line.isascii() and line.isprintable() and len(line) <= MAX_RESPONSE


def mailcheck(data: bytes) -> None:
    """Datagrams of both directions: a request is taken apart, an answer is a state, a load, a refusal, or nothing."""
    request = parse_mailcheck(data)
    if request.letter == b"M" and is_mailbox(name := request.parameter.decode("latin-1")):
        assert parse_mailcheck(mail_request(name)) == request and not is_answer(data)
    with contextlib.suppress(MailcheckError):
        state = parse_mail_answer(data)
        assert state is None or (state in MailState and data.startswith(b"+OK "))
    with contextlib.suppress(MailcheckError):
        load = parse_load_answer(data)
        assert load is None or (math.isfinite(load) and load >= 0)


def ring_packets(data: bytes) -> None:
    """Packets of ringd and its clients: what is understood is encoded to what is understood alike."""
    with contextlib.suppress(UsageError):
        request = decode_request(data)
        assert len(data) <= MAX_RING_REQUEST and decode_request(request.encode()) == request
        assert canonical(canonical(request.endpoint)) == canonical(request.endpoint)
    with contextlib.suppress(UsageError):
        answer = decode_answer(data)
        assert len(data) <= MAX_RING_ANSWER
        if answer.refusal is None or answer.refusal == answer.refusal.strip():
            decode_answer(answer.encode())


def control_line(data: bytes) -> None:
    """A control command: it is one of the table, or is refused in words; its words can be joined and split again."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(UsageError):
        words = split_words(text)
        if text.isprintable():
            assert split_words(join_words(words)) == words
        for commands in filter(None, (PPROXY.commands, PSERV.commands)):
            with contextlib.suppress(UsageError):
                commands.find(words)
            assert 0 <= commands.known_words(words) <= len(words)


def control_answer(data: bytes) -> None:
    """An answer of a master: no line of it can be taken for its end, whatever text it carries."""
    text = data.decode("utf-8", "replace")
    parse_end(text)
    octets = ControlAnswer(True, text[:100], tuple(text.split("|"))).render()
    *lines, end = octets.decode("utf-8").removesuffix("\n").split("\n")
    assert parse_end(end) is not None and all(parse_end(line) is None for line in lines)
    for line in lines:
        unstuffed(line)


class _Page(PageServer):
    """A server of one page without a socket."""

    def __init__(self) -> None:
        self._path, self._type, self._page = b"/metrics", "text/plain", lambda: b"page"

    def answer(self, request: bytes) -> bytes:
        return self._reply(request)


def http_request(data: bytes) -> None:
    """A request for metrics: nothing as long as it is not whole, else one HTTP answer."""
    answer = _Page().answer(data)
    assert not answer or answer.startswith(b"HTTP/1.")
    assert answer or (b"\n\n" not in data and b"\n\r\n" not in data)
