"""Dovecot as a contender: alone or as its own proxy before itself, as packaged or tuned.

The configurations are configs/dovecot-*.conf; what 2.3 and 2.4 call differently in them is in
tests/harness/dovecot_config.py.  Also the backend of everyone who is only a proxy.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from popular.addresses import Endpoint
from tests.bench.foreground import CONFIGS, HOST, CannotStart, Foreground, launch, names_of
from tests.bench.population import PASSWORD, Store
from tests.harness.dovecot import MAX_FOLDER, NoDovecot, find_dovecot
from tests.harness.dovecot_config import configure
from tests.harness.ports import free_port

TUNED = "tuned"


@dataclass(slots=True)
class Chain:
    """Several programs, the one that clients connect to last."""

    programs: list[Foreground]
    checks: Endpoint | None = None
    tls: Endpoint | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect."""
        return self.programs[-1].endpoint

    def close(self) -> None:
        """End them, the outermost first."""
        for program in reversed(self.programs):
            program.close()


def missing() -> str:
    """Return what is missing here for a Dovecot, or an empty text."""
    try:
        find_dovecot()
    except NoDovecot as why:
        return str(why)
    return ""


def start_server(folder: Path, store: Store, owner: tuple[int, int], kind: str) -> Chain:
    """Start a Dovecot with the mail; `kind` is packaged or tuned; raises CannotStart."""
    uid, gid = owner
    words = {"users": store.passwd, "uid": uid, "gid": gid, "homes": store.homes}
    return Chain([_start(folder, f"server-{kind}", "dovecot-server.conf", kind, owner, **words)])


def start_proxy_and_server(folder: Path, store: Store, owner: tuple[int, int], kind: str, *,
                           has_tls: bool = False) -> Chain:
    """Start a Dovecot with the mail, and one that only passes on before it, with TLS or not; raises CannotStart."""
    chain = start_server(folder, store, owner, kind)
    words: dict[str, object] = {"password": PASSWORD, "users": store.passwd, "backend": chain.endpoint.port}
    more = []
    if has_tls:
        chain.tls = Endpoint(HOST, free_port())
        more.append("dovecot-tls.conf")
        words.update(tls=chain.tls.port, certificate=store.certificate, key=store.key)
    try:
        chain.programs.append(_start(folder, f"proxy-{kind}", "dovecot-proxy.conf", kind, owner, *more, **words))
    except BaseException:
        chain.close()
        raise
    return chain


def _start(folder: Path, name: str, role: str, kind: str, owner: tuple[int, int], *more: str,
           **words: object) -> Foreground:
    program = find_dovecot()
    own = folder / name
    if len(str(own)) > MAX_FOLDER:
        raise CannotStart(f"the name of Dovecot's folder is longer than {MAX_FOLDER} characters: {own}")
    own.mkdir()
    own.chmod(0o755)
    user, group = names_of(owner)

    def make(port: int) -> list[str | Path]:
        common = {"folder": own, "port": port, "user": user, "group": group}
        parts = ["dovecot-common.conf", role, f"dovecot-{kind}.conf", *more]
        if os.geteuid() != 0:
            parts.append("dovecot-one-user.conf")
        template = "\n".join((CONFIGS / part).read_text() for part in parts)
        config = own / "dovecot.conf"
        config.write_text(configure(template, program.language, **common, **words))
        return [program.path, "-F", "-c", config]

    return launch(own, name, make)
