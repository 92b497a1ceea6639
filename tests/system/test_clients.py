"""Six real clients fetch, keep and delete real mail through the proxy, over all three protocols.

The messages are CPython's own e-mail samples, delivered by pdeliver.  What a client stores must be,
octet for octet, what was delivered; fetchmail and getmail change some of the odder samples by
themselves, so theirs is compared with what they store when they fetch from Dovecot without us.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.clients import CLIENTS, PASSWORD, Account
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.dovecot_config import VERSIONS
from tests.harness.mail import crlf, sample_folder, samples, without_envelope
from tests.harness.needs import lacking
from tests.harness.site import MailSite, deliver, record

KEEP, DELETE = ("xpop", "pop3"), ("cxpop", "pop3")    # protocols; clients cannot tell cxpop from xpop
INNER = "inner secret"                       # what the proxy gives to Dovecot instead of the user's password
FAITHFUL = ("poplib", "curl", "mpop", "netpop3")
ACTIONS = ("keep", "delete")

pytestmark = pytest.mark.limit(120)


def names(protocol: str) -> list[str]:
    """Return the users whose mail is reached by one protocol: one for each client and action."""
    return [f"{client}-{protocol}-{action}" for client in CLIENTS for action in ACTIONS]


@pytest.fixture(scope="module")
def folder(module_rundir: Path) -> Path:
    """A folder that everyone can enter: Dovecot and the clients of root work as nobody."""
    return module_rundir


@pytest.fixture(scope="module")
def template(folder: Path) -> Path:
    """A mailbox with every sample, made by pdeliver."""
    if sample_folder() is None:
        lacking("Python's test package")
    spool = _made(folder / "template")
    for message in samples().values():
        deliver(spool, "all", message)
    return spool / "all"


@pytest.fixture(scope="module")
def dovecot(folder: Path, template: Path) -> Iterator[Dovecot | None]:
    """A Dovecot where everyone has all samples; `direct-…` are for clients that come without the proxy."""
    direct = {f"direct-{client}": PASSWORD for client in CLIENTS}
    try:
        server = Dovecot.start(folder / "dovecot", {**{name: INNER for name in names("pop3")}, **direct})
    except NoDovecot:
        yield None
        return
    with server:
        for user in [*names("pop3"), *direct]:
            shutil.copytree(template, server.maildir(user), dirs_exist_ok=True)
            server.own(user)
        yield server


@pytest.fixture(scope="module")
def store(folder: Path, template: Path) -> Iterator[MailSite]:
    """Our own daemons with the mailboxes of CXPOP and XPOP."""
    spool = folder / "spool"
    records = []
    for protocol in ("cxpop", "xpop"):
        for name in names(protocol):
            shutil.copytree(template, spool / "box" / name)
            records.append(record(name, PASSWORD, protocol, f"box/{name}"))
    with MailSite(_made(folder / "store"), spool, records) as site:
        yield site


@pytest.fixture(scope="module")
def front(folder: Path, dovecot: Dovecot | None) -> Iterator[MailSite | None]:
    """A proxy before Dovecot."""
    if dovecot is None:
        yield None
        return
    records = [record(name, PASSWORD, "pop3", "", (name, INNER)) for name in names("pop3")]
    with MailSite(_made(folder / "front"), _made(folder / "nothing"), records, pop3=dovecot.endpoint) as site:
        yield site


@pytest.fixture
def proxy(protocol: str, store: MailSite, front: MailSite | None) -> Endpoint:
    """The proxy of the protocol."""
    site = front if protocol == "pop3" else store
    return site.pproxy.endpoint() if site is not None else lacking(f"Dovecot {' or '.join(VERSIONS)}")


@pytest.fixture
def mailbox(protocol: str, store: MailSite, dovecot: Dovecot | None) -> Callable[[str], list[Path]]:
    """A function (user) that returns the message files that a user still has on the server."""

    def files(user: str) -> list[Path]:
        where = dovecot.maildir(user) if dovecot and protocol == "pop3" else store.spool / "box" / user
        return [path for name in ("new", "cur") for path in (where / name).iterdir()]

    return files


@pytest.fixture
def home(folder: Path, request: pytest.FixtureRequest) -> Path:
    """A folder for one run of a client."""
    return _made(folder / request.node.name.replace("[", "-").strip("]"))


@pytest.fixture
def wanted(folder: Path, dovecot: Dovecot | None) -> Callable[[str], list[bytes]]:
    """A function (client) that returns what a client has to store, in ascending order."""

    def messages(name: str) -> list[bytes]:
        if name in FAITHFUL:
            return sorted(crlf(without_envelope(message)) for message in samples().values())
        known = folder / f"direct-{name}"
        if not known.exists():
            if dovecot is None:
                lacking(f"Dovecot {' or '.join(VERSIONS)}")
            account = Account(dovecot.endpoint, f"direct-{name}", _made(folder / f"home-{name}"))
            _remember(known, CLIENTS[name].fetch(account, keep=True))
        return sorted(path.read_bytes() for path in known.iterdir())

    return messages


@pytest.mark.parametrize("protocol", KEEP)
@pytest.mark.parametrize("name", CLIENTS)
def test_fetches_and_keeps(name, protocol, proxy, home, wanted, mailbox):
    client, account = CLIENTS[name], Account(proxy, f"{name}-{protocol}-keep", home)
    assert sorted(client.fetch(account, keep=True)) == wanted(name)
    again = client.fetch(account, keep=True)
    assert sorted(again) == ([] if client.remembers else wanted(name))
    assert len(mailbox(account.user)) == len(samples())


@pytest.mark.parametrize("protocol", DELETE)
@pytest.mark.parametrize("name", CLIENTS)
def test_fetches_and_deletes(name, protocol, proxy, home, wanted, mailbox):
    client, account = CLIENTS[name], Account(proxy, f"{name}-{protocol}-delete", home)
    assert sorted(client.fetch(account, keep=False)) == wanted(name)
    assert mailbox(account.user) == []
    assert client.fetch(account, keep=False) == []


def _remember(folder: Path, messages: list[bytes]) -> None:
    assert len(messages) == len(samples())
    _made(folder)
    for number, message in enumerate(messages):
        (folder / f"{number:05d}").write_bytes(message)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    return folder
