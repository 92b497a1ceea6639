"""ringd.ports and the kind of ringd's `ports`: counting references, and which ports may be asked for (spec 8.3)."""

import re
import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.addresses import Endpoint
from popular.errors import StartError
from popular.ringd import ports
from popular.ringd.ports import PortTable
from popular.ringd.settings import PortRanges, Ports

POP, POPS = Endpoint("127.0.0.1", 110), Endpoint("127.0.0.1", 995)


class Sock:
    """Stands for a socket and tells how it ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def shutdown(self, how: int) -> None:
        self.ends.append("shutdown")

    def close(self) -> None:
        self.ends.append("close")


@pytest.fixture
def opened() -> list[Sock]:
    """All sockets that the table opened."""
    return []


@pytest.fixture
def table(opened: list[Sock]) -> PortTable:
    """A table that opens nothing real; port 1 is in use."""
    def bind(endpoint: Endpoint) -> socket.socket:
        if endpoint.port == 1:
            raise StartError("in use")
        opened.append(Sock())
        return opened[-1]    # type: ignore[return-value]

    return PortTable(bind)


def test_spec_8_3_all_askers_get_the_same_socket(table: PortTable, opened: list[Sock]) -> None:
    socks = {id(table.take(holder, POP).sock) for holder in (1, 2, 2)}
    assert socks == {id(opened[0])} and len(opened) == 1
    assert table.take(1, POPS).sock is opened[1]    # type: ignore[comparison-overlap]


def test_spec_8_3_references_are_counted_and_the_last_one_closes(table: PortTable, opened: list[Sock]) -> None:
    assert [table.take(holder, POP).references for holder in (1, 2, 2)] == [1, 2, 3]
    assert [table.give_back(holder, POP).references for holder in (2, 1)] == [2, 1]
    assert opened[0].ends == []
    assert table.give_back(2, POP).references == 0
    assert opened[0].ends == ["shutdown", "close"]
    assert table.take(1, POP).references == 1 and len(opened) == 2


def test_what_one_does_not_have_he_cannot_give_back(table: PortTable, opened: list[Sock]) -> None:
    table.take(1, POP)
    for holder, endpoint in ((2, POP), (1, POPS)):
        with pytest.raises(StartError, match="not yours"):
            table.give_back(holder, endpoint)
    table.give_back(1, POP)
    with pytest.raises(StartError, match="not yours"):
        table.give_back(1, POP)


def test_a_dead_holder_loses_everything_and_nobody_else_does(table: PortTable, opened: list[Sock]) -> None:
    for holder, endpoint in ((1, POP), (1, POP), (1, POPS), (2, POP)):
        table.take(holder, endpoint)
    assert {port.endpoint: port.references for port in table.drop(1)} == {POP: 1, POPS: 0}
    assert [sock.ends for sock in opened] == [[], ["shutdown", "close"]]
    assert table.drop(1) == [] and not table.has_any(1) and table.has_any(2)


def test_a_port_that_cannot_be_opened_counts_nothing(table: PortTable) -> None:
    with pytest.raises(StartError, match="in use"):
        table.take(1, Endpoint("127.0.0.1", 1))
    assert len(table) == 0 and not table.has_any(1)


def test_leaving_ends_no_port(table: PortTable, opened: list[Sock]) -> None:
    table.take(1, POP)
    table.leave()
    assert opened[0].ends == ["close"] and len(table) == 0


def test_limits(table: PortTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_MAX_PORTS", 2)
    monkeypatch.setattr(ports, "_MAX_REFERENCES", 3)
    for endpoint in (POP, POPS, POP):
        table.take(1, endpoint)
    with pytest.raises(StartError, match="too many ports for one program"):
        table.take(1, POP)
    with pytest.raises(StartError, match="^too many ports$"):
        table.take(2, Endpoint("::1", 110))
    assert table.take(2, POP).references == 3


def test_an_end_that_fails_is_an_end(opened: list[Sock]) -> None:
    class Deaf(Sock):
        def shutdown(self, how: int) -> None:
            raise OSError(107, "not connected")

    deaf = Deaf()
    table = PortTable(lambda endpoint: deaf)    # type: ignore[arg-type, return-value]
    table.take(1, POP)
    table.give_back(1, POP)
    assert deaf.ends == ["close"]


@given(st.lists(st.tuples(st.sampled_from(["take", "give", "drop"]), st.integers(1, 3), st.sampled_from([POP, POPS]))))
def test_counting_agrees_with_a_simple_count(steps: list[tuple[str, int, Endpoint]]) -> None:
    table = PortTable(lambda endpoint: Sock())    # type: ignore[arg-type, return-value]
    counts: Counter[tuple[int, Endpoint]] = Counter()
    for verb, holder, endpoint in steps:
        if verb == "take":
            counts[holder, endpoint] += 1
            total = sum(count for (_, where), count in counts.items() if where == endpoint)
            assert table.take(holder, endpoint).references == total
        elif verb == "give" and counts[holder, endpoint]:
            counts[holder, endpoint] -= 1
            table.give_back(holder, endpoint)
        elif verb == "drop":
            table.drop(holder)
            counts = Counter({key: count for key, count in counts.items() if key[0] != holder})
        assert len(table) == len({where for (_, where), count in counts.items() if count})


@pytest.mark.parametrize(("text", "ranges", "shown"), [
    ("110", ((110, 110),), "110"),
    (" 110 ,995", ((110, 110), (995, 995)), "110, 995"),
    ("1-1023, 8110", ((1, 1023), (8110, 8110)), "1-1023, 8110"),
    ("110-110", ((110, 110),), "110"),
    ("1-65535", ((1, 65535),), "1-65535"),
])
def test_ports_are_read_and_shown(text: str, ranges: tuple[tuple[int, int], ...], shown: str) -> None:
    value = Ports().parse(text)
    assert value == PortRanges(ranges) and Ports().show(value) == shown
    assert Ports().parse(shown) == value


@pytest.mark.parametrize("text", [
    "", ",", "110,", "0", "65536", "995-110", "110-", "-110", "1-2-3", "110 995", "pop3", "0x6e", "٣", "1,"*100 + "1"])
def test_what_are_no_ports(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(Ports.wanted)}$"):
        Ports().parse(text)


@pytest.mark.parametrize(("port", "is_in"), [(0, False), (1, True), (9, True), (10, False), (110, True), (111, False)])
def test_which_ports_are_in_some_ranges(port: int, is_in: bool) -> None:
    assert (port in Ports().parse("1-9, 110")) is is_in
