"""Clients that keep their mail on the server, in the mode in which each of them starts, poll several times.

What each has to find out is which messages it has fetched before: each message must come once, whether the server has
LAST or not.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import CLIENTS, PASSWORD, Account, Client, Fetchmail
from tests.harness.popclient import PopClient
from tests.harness.site import MailSite, deliver, record

POLLERS: dict[str, Client] = {
    "fetchmail": Fetchmail(""), "mpop": CLIENTS["mpop"], "getmail": CLIENTS["getmail"]}    # getmail forgets by default
ROUNDS = (3, 0, 2, 0)    # messages that come before each poll

pytestmark = pytest.mark.limit(120)


@pytest.fixture(params=[False, True], ids=["without LAST", "with LAST"])
def has_last(request: pytest.FixtureRequest) -> bool:
    """Whether the daemons have LAST."""
    return bool(request.param)


@pytest.fixture
def site(has_last: bool) -> Iterator[MailSite]:
    """Daemons with a mailbox for each client."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    try:
        (folder / "spool/none/new").mkdir(parents=True)
        variables = {name: {"last": "on"} for name in ("pserv", "pproxy")} if has_last else {}
        with MailSite(folder, folder / "spool", [record(name, PASSWORD, "cxpop", name) for name in [*POLLERS, "none"]],
                      variables=variables) as made:
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", POLLERS)
def test_each_message_comes_once(name: str, site: MailSite) -> None:
    home = site.folder / "home"
    home.mkdir()
    account = Account(site.pproxy.endpoint(), name, home)
    number = 0
    for count in ROUNDS:
        wanted = list(range(number, number + count))
        number += count
        for subject in wanted:
            deliver(site.spool, name, b"From: joe@example.org\nSubject: %d\n\ntext\n" % subject)
        fetched = POLLERS[name].fetch(account, keep=True)
        assert sorted(int(message.partition(b"Subject: ")[2].partition(b"\r\n")[0]) for message in fetched) == wanted


def test_pserv_and_the_empty_mailbox_of_pproxy_agree(site: MailSite, has_last: bool) -> None:
    deliver(site.spool, "mpop", b"Subject: x\r\n\r\n")
    for user in ("mpop", "none"):
        client = PopClient(site.pproxy.endpoint())
        with client:
            assert client.login(user, PASSWORD).startswith(b"+OK")
            answer = client.command("LAST")
            assert answer == (b"+OK 0" if has_last else b"-ERR unknown command")
            client.ok("QUIT")
