"""Limits for clients of pproxy, on a real daemon: connections, networks, failed logins, sessions of a user."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import refused, tell
from tests.harness.daemon import Daemon
from tests.harness.metrics import scrape, where
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, PASSWORD, XENIA, StartProxy, store
from tests.harness.system import title_of, wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # so that all users see an empty mailbox
HERE, NEAR, FAR = "127.0.2.1", "127.0.2.2", "127.0.3.1"
REFUSED = b"-ERR [SYS/TEMP] connection refused, please try again later\r\n"
UNCHECKED = b"-ERR [SYS/TEMP] Too many failed logins, please try again later"
WRONG = b"-ERR [AUTH]"

Pop = Callable[..., PopClient]


@pytest.fixture
def daemon(proxy: StartProxy) -> Daemon:
    """A pproxy that exempts nobody, and lets users of its two virtual servers see an empty mailbox."""
    return proxy(store(NOWHERE), exempt="none", metrics="127.0.0.1:0", maxauthtries=100, maxsession=100)


@pytest.fixture
def come(daemon: Daemon, pop: Pop) -> Callable[[str], bytes]:
    """Connect from an address and stay; returns the greeting."""
    return lambda source: bytes(pop(daemon.endpoint(), source=source).line())


def refusals(daemon: Daemon) -> dict[str, float]:
    return {reason: number for reason, number in scrape(where(daemon)).by("clients_refused_total", "reason").items()
            if number}


def test_open_connections_of_an_address_and_of_a_network(daemon: Daemon, come: Callable[[str], bytes]) -> None:
    """Without a setting they are a tenth and a quarter of maxsession."""
    assert [come(HERE).startswith(b"+OK") for _ in range(11)] == [True] * 10 + [False]
    assert [come(NEAR).startswith(b"+OK") for _ in range(10)] == [True] * 10
    assert [come("127.0.2.3").startswith(b"+OK") for _ in range(6)] == [True] * 5 + [False]
    assert come(FAR).startswith(b"+OK")
    assert refusals(daemon) == {"address": 1, "network": 1}
    first, second = daemon.log_lines("client_limited")
    assert f"client='{HERE}:" in first and first.endswith("vserv='main' why='address'")
    assert "client='127.0.2.3:" in second and second.endswith("why='network'")


def test_who_leaves_makes_room_and_so_does_a_dead_child(daemon: Daemon, pop: Pop, come: Callable[[str], bytes]) -> None:
    tell(daemon, "set addresssessions 2", "set addressprefix '31 64'", "set networkprefix '16 48'")
    first, second = (pop(daemon.endpoint(), source=source) for source in ("127.0.2.0", HERE))
    first.greeting()
    second.greeting()
    assert pop(daemon.endpoint(), source=HERE).rest() == REFUSED
    first.ok("QUIT")
    wait_for(lambda: come(HERE).startswith(b"+OK"), 5.0, "the end of a session")
    tell(daemon, f"session kill client={HERE}")
    second.rest()
    wait_for(lambda: come(HERE).startswith(b"+OK"), 5.0, "the end of killed sessions")


def test_new_connections_in_a_minute(daemon: Daemon, pop: Pop) -> None:
    tell(daemon, "set addressrate 3", "set networkrate 5")

    def visit(source: str) -> bool:
        with PopClient(daemon.endpoint(), source=source) as client:
            is_served = client.line().startswith(b"+OK")
            if is_served:
                client.ok("QUIT")
        return is_served

    assert [visit(HERE) for _ in range(4)] == [True] * 3 + [False]
    assert [visit(NEAR) for _ in range(3)] == [True] * 2 + [False]
    assert visit(FAR)
    assert refusals(daemon) == {"address_rate": 1, "network_rate": 1}


def test_lists_of_networks_are_followed_live(daemon: Daemon, pop: Pop, rundir: Path) -> None:
    def who_is_served() -> dict[str, bool]:
        return {source: pop(daemon.endpoint(), source=source).line().startswith(b"+OK") for source in (HERE, NEAR, FAR)}

    denied = rundir / "denied"
    denied.write_text("# botnets\n127.0.3.0/24 2001:db8::/32\n")
    tell(daemon, f"set denyfile {denied}", "vserv set main deny=127.0.2.2")
    assert who_is_served() == {HERE: True, NEAR: False, FAR: False}
    denied.write_text("127.0.2.1\n")
    tell(daemon, "reload")
    assert who_is_served() == {HERE: False, NEAR: False, FAR: True}
    tell(daemon, "vserv set main deny=", "vserv set main allow='127.0.2.0/24, 127.0.4.0/24'")
    assert who_is_served() == {HERE: False, NEAR: True, FAR: False}
    assert refusals(daemon) == {"denied": 6}
    denied.write_text("127.0.2.1 store1\n")
    reply = refused(daemon, "reload")
    assert f"{denied}: 'store1' is not a network such as" in "".join((reply.text, *reply.lines))
    assert who_is_served() == {HERE: False, NEAR: True, FAR: False}


def test_failed_logins_of_an_address(daemon: Daemon, pop: Pop) -> None:
    """They are remembered over connections, whether the user exists or not; others do not notice."""
    tell(daemon, "set maxfailures 3")
    assert pop(daemon.endpoint(), source=FAR).login(XENIA, PASSWORD).startswith(EMPTY)
    for user in (XENIA, "nobody", XENIA):
        assert pop(daemon.endpoint(), source=NEAR).login(user, "wrong").startswith(WRONG)
        assert pop(daemon.endpoint(), source=FAR).login("nobody", "wrong").startswith(WRONG)
    assert pop(daemon.endpoint(), source=NEAR).rest() == REFUSED, "nobody has ever logged in from there"
    for user in ("nobody", "other"):
        client = pop(daemon.endpoint(), source=FAR)
        assert client.login(user, PASSWORD) == UNCHECKED
        assert client.rest() == b""
    assert pop(daemon.endpoint(), source=FAR).login(XENIA, PASSWORD).startswith(EMPTY), "known there"
    assert pop(daemon.endpoint(), source=HERE).login(XENIA, PASSWORD).startswith(EMPTY), "another address"
    assert refusals(daemon) == {"failed_logins": 1}
    assert scrape(where(daemon)).by("logins_unchecked_total", "program") == {"pproxy": 2}
    assert [f"client='{FAR}:" in line for line in daemon.log_lines("login_unchecked")] == [True, True]


def test_an_administrator_helps_who_is_locked_out(daemon: Daemon, pop: Pop) -> None:
    def shown(address: str, user: str = "") -> dict[str, str]:
        [reply] = tell(daemon, f"client show {address} {user}")
        [line] = [line for line in reply.lines if line.startswith("main ")]
        return {"main": line.split()[1], **dict(word.split("=") for word in line.split()[2:])}

    tell(daemon, "set maxfailures 3")
    pop(daemon.endpoint(), source=HERE).greeting()
    for _ in range(3):
        assert pop(daemon.endpoint(), source=HERE).login(XENIA, "wrong").startswith(WRONG)
    found = shown(HERE, XENIA)
    assert (found["main"], found["why"], found["password"]) == ("refused", "failed_logins", "not-checked")
    assert 2 < float(found["failed_logins"].removesuffix("/3")) <= 3
    assert (found["known"], found["address"], found["network"]) == ("no", "4/10", "4/25")
    assert pop(daemon.endpoint(), source=HERE).rest() == REFUSED
    tell(daemon, f"client forget {HERE}")
    assert pop(daemon.endpoint(), source=HERE).login(XENIA, PASSWORD).startswith(EMPTY)
    assert shown(HERE)["main"] == "served" and shown(HERE)["failed_logins"] == "0/3"

    for _ in range(3):
        assert pop(daemon.endpoint(), source=HERE).login(XENIA, "wrong").startswith(WRONG)
    found = shown(HERE, XENIA)
    assert (found["main"], found["known"], found["password"], found["user_known_here"]) == (
        "served", "yes", "not-checked", "yes")
    [reply] = tell(daemon, f"client forget {HERE}")
    assert reply.text == f"forgotten; for a user who has logged in there before: client forget {HERE} USER"
    assert pop(daemon.endpoint(), source=HERE).login(XENIA, PASSWORD) == UNCHECKED, "their own tries are over there"
    tell(daemon, f"client forget {HERE} {XENIA}")
    assert pop(daemon.endpoint(), source=HERE).login(XENIA, PASSWORD).startswith(EMPTY)

    assert float(shown(FAR, XENIA)["user_failed"].removesuffix("/30")) == 0
    assert pop(daemon.endpoint(), source=FAR).login(XENIA, "wrong").startswith(WRONG)
    tell(daemon, f"user forget {XENIA}")
    found = shown(FAR, XENIA)
    assert found["user_failed"] == "0/30" and found["failed_logins"] != "0/3", "the address is not forgotten"
    for address in ("localhost", "1.2.3", "1.2.3.4.5"):
        assert "not a numeric address" in refused(daemon, f"client show {address}").text
        assert "not a numeric address" in refused(daemon, f"client forget {address}").text


def test_whoever_is_exempt_has_no_limit(daemon: Daemon, pop: Pop, come: Callable[[str], bytes]) -> None:
    tell(daemon, "set maxfailures 1", "set addresssessions 1", "set addressrate 1", "set exempt 127.0.2.0/24")
    for _ in range(3):
        assert pop(daemon.endpoint(), source=HERE).login(XENIA, "wrong").startswith(WRONG)
    assert [come(FAR).startswith(b"+OK") for _ in range(2)] == [True, False]


def test_sessions_of_a_user(daemon: Daemon, pop: Pop) -> None:
    tell(daemon, "set usersessions 2")
    for answer in (EMPTY, EMPTY, b"-ERR [IN-USE]"):
        assert pop(daemon.endpoint(), source=HERE).login(XENIA, PASSWORD).startswith(answer)
    tell(daemon, "vserv set main usersessions=3")
    assert pop(daemon.endpoint(), source=HERE).login(XENIA, PASSWORD).startswith(EMPTY)


def test_the_process_that_screens_clients_is_replaced_and_leaves(daemon: Daemon, pop: Pop) -> None:
    tell(daemon, "set maxsession 1", "set minspare 1", "set maxspare 1")
    pop(daemon.endpoint(), source=HERE).greeting()
    screen = wait_for(lambda: [pid for pid in daemon.children() if title_of(pid).endswith("screen")])[0]
    daemon.wait_log("screen_started")
    os.kill(screen, signal.SIGKILL)
    daemon.wait_log("screen_failed")
    daemon.wait_log("screen_started", count=2)
    tell(daemon, "set authdelay 1s")    # for which there is another
    daemon.wait_log("screen_ended")
