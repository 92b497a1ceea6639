"""The other proxies, each before a tuned Dovecot of its own: nginx, Perdition, HAProxy.

As root each runs with the rights that its package gives it, or those of the mail's owner.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from popular.addresses import Endpoint
from tests.bench.dovecot import TUNED, Chain, start_server
from tests.bench.foreground import HOST, fill, find_program, launch, names_of, need
from tests.bench.population import PASSWORD, Store
from tests.harness.ports import free_port

_MAIL_MODULE = "/usr/lib/nginx/modules/ngx_mail_module.so"
PERDITION_FILES = 1024      # it closes every possible descriptor in each child: more would flatter us

Owner = tuple[int, int]
Command = Sequence[str | Path]


def missing(program: str) -> str:
    """Return what is missing here for a peer, or an empty text."""
    if find_program(program) is None:
        return f"{program} is not installed"
    if program == "nginx" and not os.path.exists(_MAIL_MODULE):
        return "nginx has no mail module (libnginx-mod-mail)"
    return ""


def start_nginx(folder: Path, store: Store, owner: Owner, has_tls: bool) -> Chain:
    """Start nginx, which is also the HTTP server that it asks about logins."""
    user, group = names_of(owner)
    user_line = f"user {user} {group};" if os.geteuid() == 0 else ""
    secured = 0

    def command(port: int, backend: Endpoint) -> Command:
        nonlocal secured
        part = ""
        if has_tls:
            secured = free_port()
            part = fill("nginx-tls.conf", folder / "nginx-tls.conf", port=secured, certificate=store.certificate,
                        key=store.key).read_text()
        config = fill("nginx.conf", folder / "nginx.conf", module=_MAIL_MODULE, user_line=user_line, folder=folder,
                      password=PASSWORD, auth=free_port(), backend=backend.port, port=port, tls=part)
        return [need("nginx"), "-e", folder / "error.log", "-c", config]

    chain = _before_dovecot(folder, store, owner, "nginx", command)
    chain.tls = Endpoint(HOST, secured) if has_tls else None
    return chain


def start_perdition(folder: Path, store: Store, owner: Owner, has_tls: bool) -> Chain:
    """Start Perdition, without a map: everyone's mail is in one place; for TLS a second one."""
    user, group = names_of(owner)

    def command(port: int, backend: Endpoint, *tls: str | Path) -> Command:
        return [need("perdition"), "--no_daemon", "--config_file", "/dev/null", "--protocol", "POP3",
                "--bind_address", HOST, "--listen_port", str(port), "--outgoing_server", backend.host,
                "--outgoing_port", str(backend.port), "--map_library", "", "--no_lookup", "--server_resp_line",
                "--username", user, "--group", group, "--pid_file", "",
                "--log_facility", folder / "perdition.log", *(tls or ("--ssl_mode", "none"))]

    def secured(port: int) -> Command:
        return command(port, backend, "--ssl_mode", "ssl_listen", "--ssl_cert_file", store.certificate,
                       "--ssl_key_file", store.key, "--ssl_no_client_cert_verify")

    chain = _before_dovecot(folder, store, owner, "perdition", command, files=PERDITION_FILES)
    backend = chain.programs[0].endpoint
    if has_tls:
        try:
            program = launch(folder, "perdition-tls", secured, files=PERDITION_FILES, is_secured=True)
        except BaseException:
            chain.close()
            raise
        chain.programs.insert(1, program)
        chain.tls = program.endpoint
    return chain


def start_haproxy(folder: Path, store: Store, owner: Owner, has_tls: bool) -> Chain:
    """Start HAProxy in TCP mode; it has no part in TLS."""
    user, group = names_of(owner)
    user_line = f"user {user}\n    group {group}" if os.geteuid() == 0 else ""

    def command(port: int, backend: Endpoint) -> Command:
        config = fill("haproxy.cfg", folder / "haproxy.cfg", user_line=user_line, port=port, backend=backend.port)
        return [need("haproxy"), "-db", "-f", config]

    return _before_dovecot(folder, store, owner, "haproxy", command)


def _before_dovecot(folder: Path, store: Store, owner: Owner, name: str,
                    command: Callable[[int, Endpoint], Command], files: int | None = None) -> Chain:
    """Start a Dovecot and what `command(port, backend)` says before it; raises CannotStart."""
    chain = start_server(folder, store, owner, TUNED)
    backend = chain.endpoint
    try:
        chain.programs.append(launch(folder, name, lambda port: command(port, backend), files=files))
    except BaseException:
        chain.close()
        raise
    return chain
