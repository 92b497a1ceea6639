"""A whole mail system for one test or module: pcheckd, pserv and pproxy, and users in a passwd file.

A daemon that is started again takes the port it had before, as after a crash on a real host.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.tools import run_octets

ANY_PORT = Endpoint("127.0.0.1", 0)


def record(user: str, password: str, backend: str, mailbox: str = "", login: tuple[str, str] | None = None) -> str:
    """Return one line of the passwd file; `login` is what a POP3 backend is given."""
    fields = [user, "{PLAIN}" + password, backend, "", mailbox, *(login or ())]
    return ":".join(fields)


@dataclass(slots=True)
class MailSite:
    """The daemons and where they are; backends are called cxpop, xpop and, with `pop3` given, pop3."""

    folder: Path                            # a short name: run folders and logs are here
    spool: Path
    records: Iterable[str]
    pop3: Endpoint | None = None
    variables: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    module: Mapping[str, object] | None = None    # a database module instead of passwd and `records`
    daemons: dict[str, Daemon] = field(default_factory=dict)
    ended: list[Daemon] = field(default_factory=list)

    def __enter__(self) -> "MailSite":
        try:
            self.start("pcheckd")
            self.start("pserv")
            self.start("pproxy")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def pcheckd(self) -> Daemon:
        """The daemon that answers mail checks."""
        return self.daemons["pcheckd"]

    @property
    def pserv(self) -> Daemon:
        """The storage server."""
        return self.daemons["pserv"]

    @property
    def pproxy(self) -> Daemon:
        """The proxy."""
        return self.daemons["pproxy"]

    def start(self, program: str) -> Daemon:
        """Start a daemon, or start it again on the port that it had."""
        before = self.daemons.get(program)
        if before is not None:
            before.close()
            self.ended.append(before)
        where = before.endpoint() if before is not None else ANY_PORT
        settings = {"pcheckd": self._pcheckd, "pserv": self._pserv, "pproxy": self._pproxy}[program](where)
        settings[program] = {**settings[program], **self.variables.get(program, {})}
        self.daemons[program] = Daemon.start(program, settings, self.folder)
        return self.daemons[program]

    def close(self) -> None:
        """End all daemons, the proxy first."""
        for program in ("pproxy", "pserv", "pcheckd"):
            if program in self.daemons:
                self.daemons[program].close()

    def _pcheckd(self, where: Endpoint) -> dict[str, dict[str, object]]:
        return {"pcheckd": {"mailboxdir": self.spool, "host": where.host, "port": where.port}}

    def _pserv(self, where: Endpoint) -> dict[str, dict[str, object]]:
        return {"pserv": {"mailboxdir": self.spool}, "server": {"main": {"address": where}}}

    def _pproxy(self, where: Endpoint) -> dict[str, dict[str, object]]:
        users = self.folder / "users"
        users.write_text("".join(f"{line}\n" for line in self.records))
        store = {"address": self.pserv.endpoint(), "checkport": self.pcheckd.endpoint().port}
        backends: dict[str, object] = {"cxpop": {"protocol": "cxpop", **store}, "xpop": {"protocol": "xpop", **store}}
        if self.pop3 is not None:
            backends["pop3"] = {"protocol": "pop3", "address": self.pop3}
        return {"pproxy": {"authdelay": "10ms"}, "vserv": {"main": {"address": where}}, "backend": backends,
                "pdm": {"users": self.module or {"module": "passwd", "args": users}}}

    def report(self) -> str:
        """Return the logs of all daemons, for a failed test."""
        return "\n".join(f"== {program}\n{daemon.report()}" for program, daemon in self.daemons.items())


def deliver(spool: Path, mailbox: str, message: bytes, *options: str) -> None:
    """Deliver one message as an MTA does; its lines end in LF."""
    done = run_octets("pdeliver", "--create", "-m", spool, "-l", "/dev/null", *options, mailbox, stdin=message)
    assert done.returncode == 0, done.stderr
