"""popular.pproxy.limits: how clients are counted, and who may try a password, by the clock."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from popular.addresses import Endpoint
from popular.config.netkinds import NetworkList
from popular.networks import ClientAddress, PrefixLengths
from popular.pproxy.limits.clients import (
    ADDRESS, ADDRESS_RATE, DENIED, GUESSES, NETWORK, NETWORK_RATE, STALL_SECONDS, ClientCounts, ClientLimits,
    keys_counted)
from popular.pproxy.limits.guesses import CROWD
from popular.pproxy.limits.inspection import client_line
from popular.pproxy.limits.levels import Levels
from popular.statefile.layout import PROXY, CountedBy, SessionState
from popular.statefile.slot import ChildSlot, session_key
from popular.statefile.writer import StateFile

HERE, NEAR, FAR = "192.0.2.1", "192.0.2.2", "198.51.100.1"
MOST, SECONDS = 10, 60.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def statefile() -> StateFile:
    statefile = StateFile(PROXY, 8)
    statefile.use(7)
    return statefile


@pytest.fixture
def slots(statefile: StateFile) -> Callable[[int], ChildSlot]:
    """Slots of children, by number."""
    return statefile.slot


# Open sessions

def test_sessions_of_a_mailbox(statefile: StateFile) -> None:
    children = [statefile.slot(number) for number in range(4)]
    words = "main", "store1", 300 * "x"    # longer than what is shown of a user
    by, key, other = CountedBy.MAILBOX, session_key(*words), session_key(*words[:2], f"{words[2]}y")
    assert len({0, key, other}) == 3
    for number, child in enumerate(children):
        child.begin(Endpoint(HERE, 50123), "main")
        child.count_by(by, key)
        assert child.sessions_with(by, key) == number + 1
    children[1].enter(SessionState.CLOSING, 0, 0)
    children[2].leave_backend()
    children[0].count_by(by, other)
    assert children[0].sessions_with(by, key) == 1
    statefile.clear(3)
    assert children[0].sessions_with(by, key) == 0


# Levels

def test_a_level_rises_and_falls(clock: list[float]) -> None:
    levels = Levels(100)
    assert (levels.level(5, 60.0), levels.rise(5, 60.0), levels.rise(5, 60.0)) == (0.0, 1.0, 2.0)
    clock[0] += 30.0
    assert levels.level(5, 60.0) == pytest.approx(1.5)
    clock[0] += 100.0
    assert levels.level(5, 60.0) == 0.0


def test_a_level_is_taken_up_to_the_most(clock: list[float]) -> None:
    levels = Levels(100)
    assert [levels.take(5, 60.0, 2) for _ in range(3)] == [True, True, False]
    clock[0] += 30.0
    assert not levels.take(5, 60.0, 2)
    clock[0] += 30.0
    assert levels.take(5, 60.0, 2)
    assert levels.level(5, 60.0) == 2.0


def test_as_many_as_the_most_are_taken_at_once_whatever_the_rounding(clock: list[float]) -> None:
    for most in range(1, 300):
        levels = Levels(4)
        assert sum(levels.take(5, 60.0 / most, most) for _ in range(most + 5)) == most


def test_a_level_has_a_highest_and_is_forgotten(clock: list[float]) -> None:
    levels = Levels(100)
    assert [levels.rise(5, 60.0, most=1.5) for _ in range(3)] == [1.0, 1.5, 1.5]
    levels.forget(6)
    levels.forget(5)
    assert levels.level(5, 60.0) == 0.0


def test_without_room_the_lowest_is_forgotten(clock: list[float]) -> None:
    levels = Levels(4)    # one place
    for key in range(1, 6):
        levels.rise(key, 60.0, amount=float(10 - key if key < 5 else 20))
    assert [levels.level(key, 60.0) for key in range(1, 6)] == pytest.approx([9.0, 8.0, 7.0, 0.0, 20.0])


def test_what_a_child_counts_counts_for_all(clock: list[float]) -> None:
    levels = Levels(100)
    child = os.fork()
    if child == 0:
        levels.rise(5, 60.0)
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert levels.level(5, 60.0) == 1.0
    levels.forget(5)
    assert levels.level(5, 60.0) == 0.0


def test_who_makes_way_first(statefile: StateFile) -> None:
    """Sessions of the network that has most, the oldest first; never one that has logged in."""
    for slot, (network, state) in enumerate([
            (7, SessionState.AUTH), (8, SessionState.GREETING), (8, SessionState.AUTH), (8, SessionState.EMPTY),
            (0, SessionState.AUTH), (0, SessionState.AUTH), (0, SessionState.AUTH)]):
        child = statefile.slot(slot)
        child.begin(Endpoint(HERE, 50123), "main")
        child.enter(state, 0, 0)
        child.count_by(CountedBy.NETWORK, network)
    assert statefile.most_alike([0, 1, 2, 3, 4, 5, 6], 4) == [1, 2, 0, 4]
    assert statefile.most_alike([6, 3, 2], 9) == [6, 2]


# Connections

def limits(**more: object) -> ClientLimits:
    return ClientLimits(**{name: NetworkList().parse(value) if isinstance(value, str) else value
                           for name, value in more.items()})    # type: ignore[arg-type]


@pytest.mark.parametrize("lists, host, why", [
    ({}, HERE, ""), ({"deny": "192.0.2.0/24"}, HERE, DENIED), ({"deny": "192.0.2.0/24"}, FAR, ""),
    ({"denied_by_file": "192.0.2.0/24"}, HERE, DENIED), ({"allow": "192.0.2.0/24"}, HERE, ""),
    ({"allow": "192.0.2.0/24"}, FAR, DENIED), ({"allow": "0.0.0.0/0", "deny": "192.0.2.1"}, HERE, DENIED),
    ({"exempt": "192.0.2.0/24", "deny": "192.0.2.1"}, HERE, DENIED), ({"allow": "0.0.0.0/0"}, "::1", DENIED)])
def test_lists(slots: Callable[[int], ChildSlot], lists: dict[str, str], host: str, why: str) -> None:
    assert ClientCounts().objection(limits(**lists), host, slots(0).are_too_many) == why


@pytest.mark.parametrize("limit, others, why", [
    ({"addresssessions": 3}, [HERE] * 2, ""), ({"addresssessions": 3}, [HERE] * 3, ADDRESS),
    ({"addresssessions": 3}, [HERE] * 2 + [NEAR] * 3, ""), ({"addresssessions": 3, "exempt": HERE}, [HERE] * 5, ""),
    ({"networksessions": 3}, [HERE, NEAR], ""), ({"networksessions": 3}, [HERE, NEAR, NEAR], NETWORK),
    ({"networksessions": 3}, [FAR] * 3, "")])
def test_open_sessions(slots: Callable[[int], ChildSlot], limit: dict[str, object], others: list[str],
                       why: str) -> None:
    clients = ClientCounts()
    for number, host in enumerate(others, 1):
        clients.objection(limits(**limit), host, slots(number).are_too_many)
    assert clients.objection(limits(**limit), HERE, slots(0).are_too_many) == why


def test_a_refused_connection_does_not_count(slots: Callable[[int], ChildSlot]) -> None:
    clients, limit = ClientCounts(), limits(addresssessions=5, networksessions=1)
    assert [clients.objection(limit, host, slots(number).are_too_many)
            for number, host in enumerate((NEAR, HERE, HERE, FAR))] == [
        "", NETWORK, NETWORK, ""]


def test_new_connections_in_a_minute(clock: list[float], slots: Callable[[int], ChildSlot]) -> None:
    clients, limit, slot = ClientCounts(), limits(addressrate=3, networkrate=5), slots(0)

    def come(host: str, times: int) -> list[str]:
        return [clients.objection(limit, host, slot.are_too_many) for _ in range(times)]

    assert come(HERE, 4) == ["", "", "", ADDRESS_RATE]
    assert come(NEAR, 3) == ["", "", NETWORK_RATE]
    assert come(FAR, 1) == [""]
    clock[0] += 20.0
    assert come(HERE, 2) == ["", ADDRESS_RATE]
    clock[0] += 120.0
    assert come(HERE, 4) == ["", "", "", ADDRESS_RATE]


def test_a_network_that_stalled_is_known_for_a_while(clock: list[float]) -> None:
    clients = ClientCounts()
    (_, here), (_, near), (_, far) = (keys_counted(ClientLimits(), host) for host in (HERE, NEAR, FAR))
    clients.stalled(here)
    clients.stalled(0)    # of whoever is exempt
    assert [clients.has_stalled(network) for network in (here, near, far, 0)] == [True, True, False, False]
    clock[0] += STALL_SECONDS
    assert not clients.has_stalled(here)


# Failed logins

GUARDED = ClientLimits(maxfailures=MOST, failuretime=SECONDS)


def guess(clients: ClientCounts, host: str, user: str = "joe", times: int = 1) -> int:
    """Return how many of so many wrong passwords are checked."""
    checked = 0
    for _ in range(times):
        guard = clients.guard(GUARDED, *keys_counted(GUARDED, host))
        assert guard is not None
        if guard.may_try("main", user):
            guard.failed()
            checked += 1
    return checked


def log_in(clients: ClientCounts, host: str, user: str = "joe") -> bool:
    guard = clients.guard(GUARDED, *keys_counted(GUARDED, host))
    assert guard is not None
    may_try = guard.may_try("main", user)
    if may_try:
        guard.succeeded()
    return may_try


def test_passwords_that_are_checked_at_the_same_moment_are_made_up_for(clock: list[float]) -> None:
    clients = ClientCounts()
    guards = [clients.guard(GUARDED, *keys_counted(GUARDED, HERE)) for _ in range(5 * MOST)]
    assert all(guard is not None and guard.may_try("main", "joe") for guard in guards)    # nothing has failed yet
    for guard in guards:
        assert guard is not None
        guard.failed()
    clock[0] += SECONDS * 4 * MOST
    assert guess(clients, HERE) == 0
    clock[0] += SECONDS
    assert guess(clients, HERE, times=3) == 1


def test_an_address_has_so_many_failures_and_then_one_in_a_time(clock: list[float]) -> None:
    clients = ClientCounts()
    assert sum(guess(clients, HERE, user) for user in [*"abcdefghijklmnop"]) == MOST
    assert not log_in(clients, HERE, "eve")
    clock[0] += SECONDS
    assert guess(clients, HERE, times=3) == 1
    clock[0] += MOST * SECONDS
    assert guess(clients, HERE, times=20) == MOST


def test_nobody_else_is_locked_out(clock: list[float]) -> None:
    """Not at another address, not in a network that guesses, and not at the address that does if they are known."""
    clients = ClientCounts()
    assert log_in(clients, HERE)
    assert guess(clients, HERE, "jane", times=100) == MOST
    assert [log_in(clients, host) for host in (HERE, NEAR, FAR)] == [True, True, True]
    assert not log_in(clients, HERE, "eve")


def test_whoever_guesses_from_many_addresses_has_one_try_of_each(clock: list[float]) -> None:
    clients = ClientCounts()
    assert log_in(clients, NEAR)
    for number in range(CROWD):
        assert guess(clients, f"198.51.{number}.1", times=50) == MOST
    assert [guess(clients, f"203.0.{number}.1", times=50) for number in range(3)] == [1, 1, 1]
    assert log_in(clients, NEAR) and log_in(clients, "2001:db8::1")


def test_a_known_user_has_failures_of_their_own(clock: list[float]) -> None:
    clients = ClientCounts()
    log_in(clients, HERE)
    assert guess(clients, HERE, times=MOST - 1) == MOST - 1
    assert log_in(clients, HERE)                                # and these are forgotten then
    assert guess(clients, HERE, times=50) == MOST
    assert not log_in(clients, HERE)
    assert log_in(clients, FAR)


@pytest.mark.parametrize("is_known, why", [(False, GUESSES), (True, "")])
def test_an_address_without_a_try_left_is_refused_at_once_unless_users_have_come_from_it(
        clock: list[float], slots: Callable[[int], ChildSlot], is_known: bool, why: str) -> None:
    clients = ClientCounts()
    if is_known:
        log_in(clients, HERE, "jane")
    guess(clients, HERE, times=MOST)
    assert clients.objection(GUARDED, HERE, slots(0).are_too_many) == why


def test_who_has_no_limit(clock: list[float]) -> None:
    clients = ClientCounts()
    for free in (ClientLimits(maxfailures=0), limits(maxfailures=MOST, exempt="192.0.2.0/24")):
        assert clients.guard(free, *keys_counted(free, HERE)) is None


def test_ipv6_addresses_of_one_prefix_are_one(clock: list[float]) -> None:
    assert GUARDED.addressprefix == PrefixLengths(32, 64)
    clients = ClientCounts()
    assert sum(guess(clients, f"2001:db8::{number:x}") for number in range(1, 50)) == MOST


# What administrators see

@pytest.mark.parametrize("changed, events, others, shown", [
    ({}, 0, 0, "served failed_logins=0/10 address_rate=0/5 network_rate=0/8 address=0/3 network=0/4 "
               "network_failed_logins=0/100 known=no"),
    ({"deny": "192.0.2.0/24"}, 0, 0, "refused why=denied"),
    ({"exempt": "192.0.2.0/24"}, 5, 5, "served exempt=yes"),
    ({}, 5, 0, "refused why=address_rate failed_logins=0/10 address_rate=5/5 network_rate=5/8 address=0/3 network=0/4 "
               "network_failed_logins=0/100 known=no"),
    ({"addressrate": 0}, 8, 0, "refused why=network_rate failed_logins=0/10 address_rate=0/0 network_rate=8/8 "
                               "address=0/3 network=0/4 network_failed_logins=0/100 known=no"),
    ({}, 0, 3, "refused why=address failed_logins=0/10 address_rate=0/5 network_rate=0/8 address=3/3 network=3/4 "
               "network_failed_logins=0/100 known=no"),
    ({"addresssessions": 0, "maxfailures": 0}, 0, 4,
     "refused why=network failed_logins=0/0 address_rate=0/5 network_rate=0/8 address=4/0 network=4/4 "
     "network_failed_logins=0/0 known=no"),
])
def test_what_is_shown_of_a_client_is_what_happens(clock: list[float], slots: Callable[[int], ChildSlot],
                                                   changed: dict[str, object], events: int, others: int,
                                                   shown: str) -> None:
    counts = ClientCounts()
    lists = {name: NetworkList().parse(text) for name, text in changed.items() if isinstance(text, str)}
    limits = replace(ClientLimits(addressrate=5, networkrate=8, addresssessions=3, networksessions=4, maxfailures=10),
                     **{**changed, **lists})    # type: ignore[arg-type]
    for number in range(others):
        for by, key in zip(CountedBy, limits.keys(ClientAddress.of(HERE))):
            slots(number).count_by(by, key)
    for _ in range(events):
        assert not counts.objection(limits, HERE, lambda by, key, most: False)
    assert client_line(counts, limits, HERE, [HERE] * others + [FAR], "main", "") == shown
    why = counts.objection(limits, HERE, slots(7).are_too_many)
    assert shown.startswith(f"refused why={why}" if why else "served")
