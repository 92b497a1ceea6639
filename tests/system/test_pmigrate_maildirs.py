"""Mailboxes that real servers made, moved in place: clients see the same ids in the same order, and fetch nothing anew.

Dovecot and Courier deliver nothing here; what an MTA delivers is put into new/.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.store.mailbox import Mailbox
from popular.tools.pmigrate.inplace import inplace
from popular.tools.pmigrate.main import run
from popular.tools.pmigrate.sources.maildir import MaildirSource
from popular.unix.rights import own_rights
from tests.harness.clients import CLIENTS, Account, PASSWORD as CLIENT_PASSWORD
from tests.harness.courier import PASSWORD, Courier
from tests.harness.daemon import Daemon
from tests.harness.dovecot import Dovecot, NoDovecot, find_dovecot
from tests.harness.needs import lacking
from tests.harness.popclient import PopClient
from tests.harness.site import MailSite, deliver, record

MANY = 10_000
KEEPERS = ("fetchmail", "mpop", "getmail")    # clients that know by UIDLs what they have fetched
DEFAULTS = {"2.3": "%08Xu%08Xv", "2.4": "%{uid | hex(8)}%{uidvalidity | hex(8)}"}
NAMES = {"2.3": "%f", "2.4": "%{filename}"}
NUMBERS = {"2.3": "%v.%u", "2.4": "%{uidvalidity}.%{uid}"}

Pop = Callable[[Endpoint], PopClient]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach, with a spool."""
    made = Path(tempfile.mkdtemp(prefix="popular-"))
    made.chmod(0o755)
    (made / "spool").mkdir()
    yield made
    shutil.rmtree(made)


def started_dovecot(folder: Path, users: list[str], form: str, more: str = "") -> Dovecot:
    try:
        program = find_dovecot()
        lines = f"pop3_uidl_format = {form.replace('{', '{{').replace('}', '}}')}\n{more}"
        return Dovecot.start(folder, {user: PASSWORD for user in users}, more=lines)
    except NoDovecot as why:
        lacking(f"Dovecot ({why}, {program.language})")


def arrive(maildir: Path, numbers: range) -> None:
    """Put messages into new/ as an MTA does; some names tell sizes."""
    for number in numbers:
        told = ("", ",S=20", ",S=20,W=23")[number % 3]
        (maildir / "new" / f"{1_700_000_000 + number * 7}.M{number * 7919 % 1_000_000}P{number}.mx{told}").write_bytes(
            b"Subject: %04d\n\ntext\n" % (number % 10_000))


def told(pop: Pop, endpoint: Endpoint, *commands: str) -> list[bytes]:
    """Log in and give commands; return the ids in order, and the sizes, before them."""
    client = pop(endpoint)
    assert client.login("joe", PASSWORD).startswith(b"+OK")
    found = [line.split()[1] for line in client.multi("UIDL")]
    sizes = [line.split()[1] for line in client.multi("LIST")]
    for command in commands:
        (client.multi if command.startswith("RETR") else client.ok)(command)
    client.ok("QUIT")
    return [*found, *sizes]


def move(maildir: Path, folder: Path, name: str, form: str = "") -> None:
    inplace(MaildirSource(str(maildir), form=form), Mailbox(str(folder / "spool"), name), own_rights(), gives=True,
            is_dry=False)


def told_by_pserv(pop: Pop, pserv: Daemon, name: str) -> list[bytes]:
    client = pop(pserv.endpoint())
    assert client.xpop(name, "sid-1").startswith(b"+OK")
    found = [line.split()[1] for command in ("UIDL", "LIST") for line in client.multi(command)]
    client.ok("QUIT")
    return found


def lived_in(maildir: Path, pop: Pop, endpoint: Endpoint, count: int, own: Callable[[], object],
             at_last: Callable[[], object] = lambda: None) -> list[bytes]:
    """Let a mailbox be used as users do: mail comes, is read, flagged, removed in the middle; return what is told.

    `at_last` is called when mail has come that the server does not know yet.
    """
    arrive(maildir, range(count))
    own()
    told(pop, endpoint, "RETR 1", "RETR 3")
    read = sorted((maildir / "cur").iterdir())
    read[0].rename(f"{read[0]}F")    # as an IMAP client does
    told(pop, endpoint, "DELE 2", "DELE 4", "DELE 5")
    arrive(maildir, range(count, count + 3))
    own()
    at_last()
    return told(pop, endpoint)


def copy(folder: Path, source: str, name: str, *options: str) -> None:
    """Run pmigrate copy; the password is that of all users."""
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    assert run(["copy", "-j1", "-d", str(folder / "spool"), "--user", "joe", "--passwordfile",
                str(folder / "password"), "--cleartext", *options, source, name]) == 0


def serve(start: Callable[..., Daemon], folder: Path) -> Daemon:
    return start("pserv", {"pserv": {"mailboxdir": folder / "spool"}, "server": {"main": {"address": "127.0.0.1:0"}}})


@pytest.mark.parametrize(("forms", "more", "count"), [
    pytest.param(DEFAULTS, "", MANY, id="default"), pytest.param(NAMES, "", 12, id="names"),
    pytest.param(NUMBERS, "pop3_save_uidl = yes\n", 12, id="saved")])
def test_a_maildir_of_dovecot(start: Callable[..., Daemon], pop: Pop, folder: Path, forms: dict[str, str], more: str,
                              count: int) -> None:
    form = forms[_language()]
    with started_dovecot(folder / "dovecot", ["joe"], form, more) as dovecot:
        maildir = dovecot.maildir("joe")

        def copy_files() -> None:
            if count < MANY:
                copy(folder, f"maildir:{maildir}", "files", "--uidl-format", form)

        before = lived_in(maildir, pop, dovecot.endpoint, count, lambda: dovecot.own("joe"), copy_files)
    assert len(before) == 2 * count and len(set(before[:count])) == count
    copy_files()
    move(maildir, folder, "joe", "%m" if "save" in more else form)    # saved ids need no format
    pserv = serve(start, folder)
    for name in ("joe", "files") if count < MANY else ("joe",):
        assert told_by_pserv(pop, pserv, name) == before


def test_a_maildir_of_courier(start: Callable[..., Daemon], pop: Pop, folder: Path) -> None:
    maildir = made(folder / "joe")
    with Courier({"joe": maildir}) as courier:
        before = lived_in(maildir, pop, courier.endpoint, 12, lambda: None,
                          lambda: copy(folder, f"courier:{maildir}", "files"))
        copy(folder, f"pop3://{courier.endpoint}", "wire")
    assert len(before) == 24 and before[0].startswith(b"UID")
    copy(folder, f"courier:{maildir}", "files")
    move(maildir, folder, "joe")
    pserv = serve(start, folder)
    assert [told_by_pserv(pop, pserv, name) for name in ("joe", "files", "wire")] == [before] * 3


def made(maildir: Path) -> Path:
    for name in ("tmp", "cur", "new"):
        (maildir / name).mkdir(parents=True)
    return maildir


def _language() -> str:
    try:
        return find_dovecot().language
    except NoDovecot as why:
        lacking(f"Dovecot ({why})")


@pytest.mark.limit(180)
@pytest.mark.parametrize("server", ["dovecot", "courier"])
def test_clients_that_keep_mail_fetch_only_what_is_new(folder: Path, server: str) -> None:
    """They go through pproxy all the time, as on the night of a move: first to the old server, then to pserv."""
    accounts: dict[str, Account] = {}
    with ExitStack() as stack:
        if server == "dovecot":
            old: Dovecot | Courier = stack.enter_context(
                started_dovecot(folder / "dovecot", list(KEEPERS), DEFAULTS[_language()]))
            assert isinstance(old, Dovecot)
            maildirs = {name: old.maildir(name) for name in KEEPERS}
        else:
            maildirs = {name: made(folder / name) for name in KEEPERS}
            old = stack.enter_context(Courier(maildirs))
        for maildir in maildirs.values():
            arrive(maildir, range(5))
        if isinstance(old, Dovecot):
            for name in KEEPERS:
                old.own(name)
        before = [record(name, CLIENT_PASSWORD, "pop3", login=(name, PASSWORD)) for name in KEEPERS]
        site = stack.enter_context(MailSite(folder, folder / "spool", before, pop3=old.endpoint))
        for name in KEEPERS:
            (folder / f"home-{name}").mkdir()
            accounts[name] = Account(site.pproxy.endpoint(), name, folder / f"home-{name}")
            assert len(CLIENTS[name].fetch(accounts[name], keep=True)) == 5
        old.stop()
        site.records = [record(name, CLIENT_PASSWORD, "cxpop", name) for name in KEEPERS]
        site.start("pproxy")
        for name in KEEPERS:
            move(maildirs[name], folder, name, DEFAULTS["2.3"])
            assert CLIENTS[name].fetch(accounts[name], keep=True) == []
            deliver(site.spool, name, b"Subject: new\n\ntext\n")
            [new] = CLIENTS[name].fetch(accounts[name], keep=True)
            assert new.endswith(b"Subject: new\r\n\r\ntext\r\n")
