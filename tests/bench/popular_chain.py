"""POPular as a contender: the whole chain, or pproxy alone before a tuned Dovecot.

The configurations are configs/p*.ini; normal logs, mail checks and all limits are on.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popular.addresses import Endpoint
from tests.bench.dovecot import TUNED, Chain, start_server
from tests.bench.foreground import CONFIGS, CannotStart, names_of
from tests.bench.memory import Weight, weight_of
from tests.bench.population import BACKEND, Store, backend_of
from tests.harness.control import control
from tests.harness.daemon import ROOT, Daemon, StartFailed

Owner = tuple[int, int]

MAX_REASON = 100        # characters of it

_TLS = "secured"        # the virtual server with TLS

_SPARES = {True: (8, 32), False: (16, 64)}      # minspare and maxspare, with a child for each session and without


@dataclass(frozen=True, slots=True)
class Shape:
    """How a contender differs from its plain form; of those that are not POPular from end to end, only in TLS."""

    vservs: int = 1         # each with a port of its own
    backends: int = 1       # `population.backend_of` names them; all are the same pserv
    module: str = ""        # the database module; the contender's own when empty
    has_tls: bool = False   # on a port of its own, with the certificate of the store
    settings: str = ""      # more lines for pproxy's variables
    python: str = sys.executable
    tree: str = str(ROOT)   # the checkout whose daemons run


class Refused(Exception):
    """The proxy did not take a changed configuration; says why."""


class PopularChain:
    """pcheckd, pserv and pproxy."""

    def __init__(self, folder: Path, store: Store, owner: Owner, maxuse: int, shape: Shape) -> None:
        """Start them; raises CannotStart."""
        self._daemons: list[Daemon] = []
        self._reloads = 0
        self._shape = shape
        words = words_of(folder, owner, maxuse, shape)
        try:
            pcheckd = self._start("pcheckd", folder, {**words, "spool": store.spool})
            pserv = self._start("pserv", folder, {**words, "spool": store.spool})
            begun = time.monotonic()
            self._proxy = self._start("pproxy", folder, {
                **words, "more_variables": shape.settings, "backend": BACKEND, "protocol": "cxpop",
                "address": pserv.endpoint(), "check_line": _check_line(pcheckd), "module": shape.module,
                "users": store.users(shape.module, "cxpop"), "more_vservs": _vservs(shape, store),
                "more_backends": _backends(shape.backends, pserv, pcheckd)})
            self.start_seconds = time.monotonic() - begun
        except StartFailed as why:
            self.close()
            raise CannotStart(str(why)) from None
        except BaseException:
            self.close()
            raise
        self.endpoint = self._proxy.endpoint()
        self.checks: Endpoint | None = pcheckd.endpoint()
        self.tls: Endpoint | None = self._proxy.endpoint(_TLS) if shape.has_tls else None

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Where the virtual servers without TLS listen."""
        return [endpoint for owner, endpoints in self._proxy.addresses.items() for endpoint in endpoints
                if owner != _TLS]

    def reload(self) -> float:
        """Change the greeting of one virtual server in the file; returns the seconds until new clients see it.

        Raises Refused when the proxy does not take it.
        """
        self._reloads += 1
        begin, _, rest = self._proxy.config.read_text().partition("banner = ")
        self._proxy.config.write_text(f"{begin}banner = reload {self._reloads}\n{rest.partition(chr(10))[2]}")
        begun = time.monotonic()
        with control(self._proxy) as client:
            for reply in (client.ask("reload"), client.ask("sync")):
                if not reply.ok:
                    raise Refused("; ".join([reply.text, *reply.lines])[:MAX_REASON])
        return time.monotonic() - begun

    def master_memory(self) -> Weight:
        """Return the memory of the proxy's master, without its children; raises OSError."""
        return weight_of(self._proxy.pid)

    def _start(self, program: str, folder: Path, words: dict[str, object]) -> Daemon:
        self._daemons.append(start_daemon(program, folder, words, self._shape))
        return self._daemons[-1]

    def close(self) -> None:
        """End them, the proxy first."""
        for daemon in reversed(self._daemons):
            daemon.close()


class ProxyBeforeDovecot:
    """pproxy before a Dovecot that has the mail."""

    def __init__(self, folder: Path, store: Store, owner: Owner, maxuse: int) -> None:
        """Start both; raises CannotStart."""
        self._server: Chain = start_server(folder, store, owner, TUNED)
        try:
            self._proxy = start_daemon("pproxy", folder, {
                **words_of(folder, owner, maxuse), "backend": BACKEND, "protocol": "pop3", "check_line": "",
                "address": self._server.endpoint, "module": "sqlite", "users": store.users("sqlite", "pop3"),
                "more_variables": "", "more_vservs": "", "more_backends": ""})
        except StartFailed as why:
            self._server.close()
            raise CannotStart(str(why)) from None
        except BaseException:
            self._server.close()
            raise
        self.endpoint = self._proxy.endpoint()
        self.checks: Endpoint | None = None
        self.tls: Endpoint | None = None

    def close(self) -> None:
        """End both, the proxy first."""
        self._proxy.close()
        self._server.close()


def start_daemon(program: str, folder: Path, words: dict[str, object], shape: Shape = Shape()) -> Daemon:
    """Start one daemon with its configuration filled in; raises StartFailed."""
    return Daemon.start(program, (CONFIGS / f"{program}.ini").read_text().format_map(words), folder, seconds=30.0,
                        root=Path(shape.tree), python=shape.python, env={"PYTHONPATH": shape.tree})


def _vservs(shape: Shape, store: Store) -> str:
    """Return the lines of all virtual servers but the first."""
    lines = "".join(f"    [[more{number}]]\n    address = 127.0.0.1:0\n" for number in range(1, shape.vservs))
    if shape.has_tls:
        lines += (f"    [[{_TLS}]]\n    address = 127.0.0.1:0\n    tls = implicit\n    tlsmin = 1.3\n"
                  f"    certificate = {store.certificate}\n    key = {store.key}\n")
    return lines


def _backends(count: int, pserv: Daemon, pcheckd: Daemon) -> str:
    """Return the lines of all backends but the first."""
    return "".join(f"    [[{backend_of(number)}]]\n    protocol = cxpop\n    address = {pserv.endpoint()}\n"
                   f"    {_check_line(pcheckd)}\n" for number in range(1, count))


def _check_line(pcheckd: Daemon) -> str:
    return f"checkport = {pcheckd.endpoint().port}"


def words_of(folder: Path, owner: Owner, maxuse: int, shape: Shape = Shape()) -> dict[str, object]:
    """Return what all three configurations are filled in with."""
    minspare, maxspare = _SPARES[maxuse == 1]
    user, group = names_of(owner)
    user_lines = f"user = {user}\ngroup = {group}\n" if os.geteuid() == 0 and _is_open_to_all(shape) else ""
    if user_lines:
        os.chown(folder, *owner)
    return {"minspare": minspare, "maxspare": maxspare, "maxuse": maxuse, "user_lines": user_lines}


def _is_open_to_all(shape: Shape) -> bool:
    """Tell whether an ordinary user can read the Python and the checkout; else root's daemons stay root."""
    python = Path(shape.python).absolute()
    paths = [python.parents[1], python.resolve().parents[1], Path(shape.tree)]    # of an environment, and what it is of
    return all(folder.stat().st_mode & 0o001 for path in paths for folder in (path, *path.parents))
