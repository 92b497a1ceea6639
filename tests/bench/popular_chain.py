"""POPular as a contender: the whole chain, or pproxy alone before a tuned Dovecot.

The configurations are configs/p*.ini; normal logs, mail checks and all limits are on.
"""

import os
import sys
from pathlib import Path

from popular.addresses import Endpoint
from tests.bench.dovecot import TUNED, Chain, start_server
from tests.bench.foreground import CONFIGS, CannotStart, names_of
from tests.bench.population import BACKEND, Store
from tests.harness.daemon import ROOT, Daemon, StartFailed

Owner = tuple[int, int]

_SPARES = {True: (8, 32), False: (16, 64)}      # minspare and maxspare, with a child for each session and without


class PopularChain:
    """pcheckd, pserv and pproxy."""

    def __init__(self, folder: Path, store: Store, owner: Owner, maxuse: int, module: str) -> None:
        """Start them; raises CannotStart."""
        self._daemons: list[Daemon] = []
        words = _words(folder, owner, maxuse)
        try:
            pcheckd = self._start("pcheckd", folder, {**words, "spool": store.spool})
            pserv = self._start("pserv", folder, {**words, "spool": store.spool})
            pproxy = self._start("pproxy", folder, {
                **words, "backend": BACKEND, "protocol": "cxpop", "address": pserv.endpoint(), "module": module,
                "check_line": f"checkport = {pcheckd.endpoint().port}", "users": store.users(module, "cxpop")})
        except StartFailed as why:
            self.close()
            raise CannotStart(str(why)) from None
        except BaseException:
            self.close()
            raise
        self.endpoint = pproxy.endpoint()
        self.checks: Endpoint | None = pcheckd.endpoint()

    def _start(self, program: str, folder: Path, words: dict[str, object]) -> Daemon:
        self._daemons.append(start_daemon(program, folder, words))
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
                **_words(folder, owner, maxuse), "backend": BACKEND, "protocol": "pop3", "check_line": "",
                "address": self._server.endpoint, "module": "sqlite", "users": store.users("sqlite", "pop3")})
        except StartFailed as why:
            self._server.close()
            raise CannotStart(str(why)) from None
        except BaseException:
            self._server.close()
            raise
        self.endpoint = self._proxy.endpoint()
        self.checks: Endpoint | None = None

    def close(self) -> None:
        """End both, the proxy first."""
        self._proxy.close()
        self._server.close()


def start_daemon(program: str, folder: Path, words: dict[str, object]) -> Daemon:
    """Start one daemon with its configuration filled in; raises StartFailed."""
    return Daemon.start(program, (CONFIGS / f"{program}.ini").read_text().format_map(words), folder, seconds=30.0)


def _words(folder: Path, owner: Owner, maxuse: int) -> dict[str, object]:
    """Return what all three configurations are filled in with."""
    minspare, maxspare = _SPARES[maxuse == 1]
    user, group = names_of(owner)
    user_lines = f"user = {user}\ngroup = {group}\n" if os.geteuid() == 0 and _is_open_to_all() else ""
    if user_lines:
        os.chown(folder, *owner)
    return {"minspare": minspare, "maxspare": maxspare, "maxuse": maxuse, "user_lines": user_lines}


def _is_open_to_all() -> bool:
    """Tell whether an ordinary user can read this Python and this checkout; else root's daemons stay root."""
    paths = [Path(sys.prefix), Path(sys.base_prefix), ROOT]
    return all(folder.stat().st_mode & 0o001 for path in paths for folder in (path, *path.parents))
