"""The pages in docs/databases: what stands there is typed, on a machine of its own, with a server of the kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import ROOT
from tests.harness.dovecot import NoDovecot, find_dovecot
from tests.harness.dovecot_config import configure
from tests.harness.house import typed
from tests.harness.manpages import Command, Example, commands_of
from tests.harness.markdown import code_blocks
from tests.harness.needs import lacking, need_module, need_program

PAGES = ROOT / "docs/databases"

# What the machine of every page has: addresses of backends, the service user, and no service manager.
MACHINE = [
    "for host in 5 6 7; do ip address add 10.0.0.$host/32 dev lo || exit 1; done",
    "useradd --system --home-dir /pop --create-home pop",
    "install -d /etc/popular", "install -d -o pop -g pop /var/run/popular /var/log/popular",
    "systemctl() { \"service_$1_$2\"; }",
]
DOVECOT = """\
{config_version}
protocols =
ssl = no
log_path = /var/log/dovecot.log
{passdb}
{userdb}
!include conf.d/*.conf"""


def before_dovecot() -> list[str]:
    """Return what makes a Dovecot without a listener for us."""
    try:
        language = find_dovecot().language
    except NoDovecot as why:
        lacking(str(why))
    config = configure(DOVECOT, language, users="/etc/dovecot/users", uid=1, gid=1, homes="/srv/mail")
    return ["install -d /etc/dovecot/conf.d /var/lib/dovecot",
            f"cat > /etc/dovecot/dovecot.conf <<'END'\n{config}\nEND",
            "service_restart_dovecot() { dovecot && until [ -S /run/dovecot/auth-popular ]; do :; done; }"]


def before_http() -> list[str]:
    """Return what makes an nginx without servers."""
    need_program("nginx")
    need_module("urllib3")
    return ["install -d /etc/nginx/conf.d /var/lib/nginx /var/log/nginx",
            "echo 'events {} http { include /etc/nginx/conf.d/*.conf; }' > /etc/nginx/nginx.conf",
            "service_reload_nginx() { nginx; }"]


def before_lmdb() -> list[str]:
    """Return nothing: there is no server."""
    need_module("lmdb")
    return []


def before_oauth() -> list[str]:
    """Return what makes a provider whose certificate is trusted, and a token of joe's."""
    for name in ("joserfc", "jwt", "urllib3"):
        need_module(name)
    return ["echo 127.0.0.1 localhost id.example.org > /etc/hosts", "mkdir /etc/ssl/id",
            "python3 -m tests.harness.oauth id.example.org /etc/ssl/id & until [ -s /etc/ssl/id/token ]; do :; done",
            "cp /etc/ssl/id/token . && export SSL_CERT_FILE=/etc/ssl/id/ca.pem"]


def before_redis() -> list[str]:
    """Return what starts a Redis without users."""
    need_program("redis-cli")
    need_module("redis")
    server = need_program("valkey-server", "redis-server")
    return [f"{server} --daemonize yes --dir /tmp && until redis-cli PING; do :; done"]


def before_sqlite() -> list[str]:
    """Return nothing: there is no server."""
    need_program("sqlite3")
    return []


BEFORE = {"cdb": lambda: [], "dovecot": before_dovecot, "exec": lambda: [], "http": before_http, "lmdb": before_lmdb,
          "oauth": before_oauth, "passwd": lambda: [], "redis": before_redis, "route": lambda: [],
          "sqlite": before_sqlite}


def commands_on(page: Path) -> Iterator[Command]:
    """Yield what is typed for a page: what its console blocks show, and the files that other blocks are."""
    for block in code_blocks(page.read_text()):
        language, _, path = block.language.partition(" ")
        text = block.text.replace("/usr/share/popular/", f"{ROOT}/etc/")
        if path:
            yield Command(f"cat > {path} <<'END OF BLOCK'\n{text}\nEND OF BLOCK")
        elif language == "console":
            yield from commands_of(Example(page.name, 0, "shell", (), f"{text}\n"))
        else:
            raise AssertionError(f"{page.name}: a block is neither console nor has it a file name")


@pytest.mark.parametrize("name", BEFORE)
def test_what_the_page_says_can_be_typed(name: str, tmp_path: Path) -> None:
    before = [Command(text, "...") for text in [*MACHINE, *BEFORE[name]()]]
    commands = [*before, *commands_on(PAGES / f"{name}.md")]
    for command, answer in zip(commands, typed(tmp_path, [command.text for command in commands])):
        assert answer.code == command.code and command.is_answer(answer.output), (command.text, answer)
