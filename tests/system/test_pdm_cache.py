"""The cache of answers in pproxy: who gets in while the database is down, and when it is asked again."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import tell
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import store
from tests.harness.pstatus import pstatus, status
from tests.harness.system import wait_for

MODULE = """
from popular.pdm.api import UNKNOWN, Answer, Outcome, PdmError, PdmModule, Request
from popular.pdm.records import answer_to, record_of

class Module(PdmModule):
    API = (1, 1)
    blocking = True

    def check(self, request):
        with open(self.args[0] + ".asked", "a") as file:
            print(request.user, file=file)
        try:
            with open(self.args[0]) as file:
                rows = dict(line.split() for line in file)
        except FileNotFoundError:
            raise PdmError("the database is down") from None
        if request.user not in rows:
            return UNKNOWN
        return answer_to(request, record_of({
            "password": "{PLAIN}" + rows[request.user], "backend": "store", "protocol": "pop3", "mailbox": "m",
            "buser": request.user, "bpass": "at-the-store"}))

    def auth(self, request, found):
        return Answer(Outcome.OK) if request.password == b"master" else UNKNOWN
"""


class Site:
    """A proxy, and the database that its module asks."""

    def __init__(self, proxy: Daemon, database: Path) -> None:
        self.proxy = proxy
        self.database = database

    def put(self, **passwords: str) -> None:
        """Let the database have these users."""
        self.database.write_text("".join(f"{user} {password}\n" for user, password in passwords.items()))
        self.database.chmod(0o644)

    def login(self, user: str, password: str) -> str:
        """Return `+OK`, `[AUTH]` or `[SYS/TEMP]`."""
        with PopClient(self.proxy.endpoint()) as client:
            return client.login(user, password).decode().removeprefix("-ERR ").split()[0]

    def asked(self) -> int:
        """Return how often the database was asked since the last time."""
        story = Path(f"{self.database}.asked")
        lines = story.read_text().splitlines() if story.exists() else []
        story.write_text("")
        story.chmod(0o666)
        return len(lines)

    def counts(self) -> tuple[int, ...]:
        """Return the numbers of hits, misses and stale answers."""
        totals = status(self.proxy)["totals"]
        return tuple(totals[f"cache_{name}"] for name in ("hits", "misses", "stale"))


@pytest.fixture
def site(start: Callable[..., Daemon], tmp_path: Path) -> Callable[..., Site]:
    def make(**variables: object) -> Site:
        os.chmod(tmp_path, 0o755)
        module = tmp_path / "pdm_remote.py"
        module.write_text(MODULE)
        module.chmod(0o644)
        proxy = start("pproxy", {
            "pproxy": {"pdmdir": tmp_path, "authdelay": 0, "pdmworkers": 2, "maxauthtries": 1, "cache": 100,
                       **variables},
            "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": store(Endpoint("127.0.0.1", 1), enabled="off"),    # its users see an empty mailbox
            "pdm": {"far": {"module": "remote", "args": str(tmp_path / "users")}},
        })
        made = Site(proxy, tmp_path / "users")
        made.put(joe="old", ann="secret")
        made.asked()
        return made
    return make


def test_who_has_logged_in_gets_in_while_the_database_is_down(site: Callable[..., Site]) -> None:
    here = site(cachetime="1s", cachestale="1h")
    assert here.login("joe", "old") == "+OK"
    here.database.unlink()
    wait_for(lambda: here.login("joe", "old") == "+OK" and here.counts()[2], 15.0, "a stale answer")
    assert here.login("joe", "guess") == here.login("ann", "secret") == "[SYS/TEMP]"
    line = here.proxy.wait_log("stale_answer")[0]
    assert "user='joe'" in line and "the database is down" in line
    assert status(here.proxy)["modules"]["far"]["failed"] >= 3
    here.put(joe="new")
    assert [here.login("joe", "old"), here.login("joe", "new")] == ["[AUTH]", "+OK"]
    here.database.unlink()
    assert here.login("joe", "new") == "+OK"


def test_without_cachestale_and_cachenegative(site: Callable[..., Site]) -> None:
    here = site(cachestale=0, cachetime="1s", cachenegative=0)
    assert [here.login("joe", password) for password in ("old", "guess", "guess")] == ["+OK", "[AUTH]", "[AUTH]"]
    assert here.asked() == 3
    here.database.unlink()
    wait_for(lambda: here.login("joe", "old") == "[SYS/TEMP]", 15.0, "the end of the answer, which is never stale")
    assert here.counts()[2] == 0


def test_the_database_is_asked_once(site: Callable[..., Site]) -> None:
    here = site()
    for _ in range(3):
        assert here.login("joe", "old") == "+OK"
        assert here.login("joe", "new") == here.login("nobody", "x") == "[AUTH]"
    assert here.asked() == 3 and here.counts() == (6, 3, 0)
    output = pstatus("-R", here.proxy.rundir, "-p", "pproxy").stdout
    assert "6 hits" in output and "3 misses" in output
    lines = here.proxy.log_lines("login ")
    assert len({line.split(" login ")[1].split("client=")[0] for line in lines}) == 1, "a hit is like the first answer"
    assert here.login("joe", "master") == here.login("joe", "master") == "+OK"
    assert here.counts() == (7, 4, 0), "the refusal before is kept, but not the login by a master password"


def test_a_changed_password(site: Callable[..., Site]) -> None:
    here = site()
    assert [here.login("joe", "old"), here.login("joe", "new")] == ["+OK", "[AUTH]"]
    here.put(joe="new", ann="secret")
    assert [here.login("joe", "old"), here.login("joe", "new")] == ["+OK", "[AUTH]"], "as it was"
    tell(here.proxy, "user forget joe")
    assert [here.login("joe", "old"), here.login("joe", "new")] == ["[AUTH]", "+OK"]


def test_what_empties_it(site: Callable[..., Site]) -> None:
    here = site()
    assert here.login("joe", "old") == "+OK" and here.asked() == 1
    for command, is_emptied in (
            ("pdm reload", True), ("pdm reload far", True), ("user forget joe", True), ("set debug on", False),
            ("vserv set main userformat=lower", False), ("user forget JOE", True),
            ("reload", False), ("set cachetime 1m", True), ("set cache 50", True),
            (f"pdm add far remote {here.database} changed", True)):
        tell(here.proxy, command, "sync")
        assert here.login("joe", "old") == here.login("joe", "old") == "+OK"
        assert here.asked() == is_emptied, command
    tell(here.proxy, "set cache 0", "sync", "user forget joe", "pdm reload", "sync")
    before = here.counts()
    assert here.login("joe", "old") == here.login("joe", "old") == "+OK"
    assert here.asked() == 2 and here.counts() == before
