"""A pproxy with users for every path through it, and the scripts of backends that serve them.

All users have the password `PASSWORD` and the backend `store`; their records say with which protocol.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon, Section
from tests.harness.fake_backend import Close, Expect, FakeBackend, ReadLines, Say, Step
from tests.harness.system import wait_for

PASSWORD = "open sesame"
CASPER = "casper"    # cxpop: a mail check first
XENIA = "xenia"      # xpop
PAUL = "paul"        # pop3, with another name and password at the backend
LOST = "lost"        # their record names a backend that does not exist
BAD = "bad"          # their record names no possible mailbox

_RECORDS = {
    CASPER: "store:cxpop:c/casper",
    XENIA: "store:xpop:x/xenia",
    PAUL: "store:pop3::paul@store:s3 cret",
    LOST: "nowhere:xpop:l/lost",
    BAD: "store:xpop:../bad",
}

FIRST_LINE = b"+OK 1 message (17 octets)"    # the answer of every script to its login

XPOP_LOGIN: Sequence[Step] = (ReadLines(3), Say(FIRST_LINE + b"\r\n"))
POP3_LOGIN: Sequence[Step] = (
    Say(b"+OK POP3 ready\r\n"), Expect(b"USER paul@store\r\n"), Say(b"+OK\r\n"), Expect(b"PASS s3 cret\r\n"),
    Say(FIRST_LINE + b"\r\n"))
GOODBYE: Sequence[Step] = (
    Expect(b"STAT\r\n"), Say(b"+OK 1 17\r\n"), Expect(b"QUIT\r\n"), Say(b"+OK bye\r\n"), Close())

LOGINS: Mapping[str, Sequence[Step]] = {CASPER: XPOP_LOGIN, XENIA: XPOP_LOGIN, PAUL: POP3_LOGIN}

StartProxy = Callable[..., Daemon]
StartLasting = Callable[..., "Lasting"]
StartOdd = Callable[..., Daemon]

EMPTY = b"+OK 0 messages"    # what a user hears whose backend is out of reach
FAILED = b"-ERR [SYS/TEMP]"

_MODULE = """
import os, signal, subprocess, sys, time
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request

OK = Answer(Outcome.OK, Found("store", "xpop", "x"))

class Module(PdmModule):
    API = (1, 1)
    blocking = {blocking}

    def check(self, request: Request) -> Answer:
{deed}
"""


def script_for(user: str, *after: Step) -> Sequence[Step]:
    """Return the script of a backend that lets `user` in and then does `after`, or answers STAT and QUIT."""
    return (*LOGINS[user], *(after or GOODBYE))


def store(backend: FakeBackend | Endpoint, check: Endpoint | None = None, **more: object) -> dict[str, Section]:
    """Return the configuration of the backend `store`."""
    endpoint = backend if isinstance(backend, Endpoint) else backend.endpoint
    checkport = {} if check is None else {"checkport": check.port}
    return {"store": {"protocol": "xpop", "address": endpoint, **checkport, **more}}


def start_proxy(start: Callable[..., Daemon], rundir: Path, backends: Mapping[str, Section], *,
                vserv: Section | None = None, more_vservs: Mapping[str, Section] | None = None,
                options: Iterable[str] = (), name: str = "", **variables: object) -> Daemon:
    """Start a pproxy with one virtual server `main` on a port from the kernel; refusals come at once.

    `name` tells a second one in the same run folder apart.
    """
    users = rundir / "users"
    lines = [f"{user}:{{PLAIN}}{PASSWORD}:{record}\n".encode() for user, record in _RECORDS.items()]
    users.write_bytes(b"".join(sorted(lines)))
    return start("pproxy", {
        "pproxy": {"authdelay": 0, "sidprefix": "px", **variables},
        "vserv": {"main": {"address": "127.0.0.1:0", **(vserv or {})}, **(more_vservs or {})},
        "backend": backends,
        "pdm": {"users": {"module": "passwd", "args": users}},
    }, options=options, name=name)


@dataclass(slots=True)
class Lasting:
    """A proxy for many tests, each of which has another backend at the same address."""

    daemon: Daemon
    backend: Endpoint
    known: int = 0    # lines of the log from before the test

    def before(self, script: Sequence[Step] | Callable[[int], Sequence[Step]]) -> FakeBackend:
        """Return the backend of a test, and forget what was logged until now."""
        self.known = len(self.daemon.log_lines())
        return FakeBackend(script, self.backend.host, self.backend.port)

    def log_lines(self, word: str) -> list[str]:
        """Return the new lines of the log that hold `word`."""
        return [line for line in self.daemon.log_lines()[self.known:] if word in line]

    def wait_log(self, word: str) -> list[str]:
        """Wait for such lines; returns them."""
        return wait_for(lambda: self.log_lines(word), what=f"{word!r} in the log")


def start_odd(start: Callable[..., Daemon], folder: Path, deed: str, *, blocking: bool = False,
              **variables: object) -> Daemon:
    """Start a pproxy whose one module, in `folder`, does `deed`: the lines of its method `check`.

    If it is `blocking`, a PDM worker does it.
    """
    os.chmod(folder, 0o755)
    module = folder / "pdm_odd.py"
    lines = "".join(f"        {line}\n" for line in deed.splitlines())
    module.write_text(_MODULE.format(blocking=blocking, deed=lines))
    module.chmod(0o644)
    return start("pproxy", {
        "pproxy": {"pdmdir": folder, "pdmtimeout": "300ms", "authdelay": 0, "sidprefix": "px", **variables},
        "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)), "pdm": {"odd": {"module": "odd"}},
    })
