"""How many children there are, how long they serve, and that none is ever lost."""

import socket
import struct

import pytest

from tests.harness.system import descriptors_of, wait_for, zombies_of
from tests.harness.toyclient import Client, idle_children, start_toy

COUNT, LONG_COUNT = 600, 2000    # connections, one after the other


def test_idle_children_are_kept_ready(start):
    toy = start_toy(start, minspare=3, maxspare=3)
    wait_for(lambda: len(toy.children()) == 3)
    with Client(toy.endpoint()) as client, Client(toy.endpoint()) as other:
        assert client.pid != other.pid
        wait_for(lambda: len(idle_children(toy.pid)) == 3)
        assert len(toy.children()) == 5
    wait_for(lambda: len(toy.children()) == 3)


def test_the_limit_holds_and_a_free_slot_is_used_at_once(start):
    toy = start_toy(start, maxsession=3)
    clients = [Client(toy.endpoint()) for _ in range(4)]
    assert len({client.pid for client in clients[:3]}) == 3
    assert len(toy.children()) == 3
    clients[3].sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        clients[3].sock.recv(1)
    clients[0].close()
    clients[3].sock.settimeout(10)
    assert clients[3].ask(b"my turn") == b"my turn"
    for client in clients:
        client.close()


def test_a_child_serves_maxuse_sessions(start):
    toy = start_toy(start, minspare=1, maxspare=1, maxsession=1, maxuse=3)
    served = []
    for _ in range(6):
        with Client(toy.endpoint()) as client:
            served.append(client.pid)
    assert served == [served[0]] * 3 + [served[3]] * 3
    assert served[0] != served[3]


def test_too_many_idle_children_are_sent_home(start):
    toy = start_toy(start, minspare=2, maxspare=3, maxuse=100)
    clients = [Client(toy.endpoint()) for _ in range(10)]
    assert len({client.pid for client in clients}) == 10
    for client in clients:
        client.close()
    wait_for(lambda: len(toy.children()) <= 3, 5.0, "the surplus to leave")
    with Client(toy.endpoint()) as client:
        assert client.ask(b"on") == b"on"


def test_all_addresses_are_served(start):
    toy = start_toy(start, address="127.0.0.1:0, 127.0.0.2:0")
    assert len(toy.addresses["toy"]) == 2
    for endpoint in toy.addresses["toy"] * 3:
        with Client(endpoint) as client:
            assert client.ask(b"here") == b"here"


@pytest.mark.limit(240)
@pytest.mark.parametrize("maxuse", [pytest.param(1, id="one session a child"), pytest.param(7, id="seven sessions")])
def test_after_many_connections_nothing_is_left_over(start, maxuse, pytestconfig):
    count = LONG_COUNT if pytestconfig.getoption("--long") else COUNT
    toy = start_toy(start, maxuse=maxuse, maxsession=20)
    wait_for(lambda: len(idle_children(toy.pid)) == 4)
    before = descriptors_of(toy.pid)
    for number in range(count):
        client = Client(toy.endpoint())
        if number % 5 == 0:      # cut off with a reset, at whatever point that is
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif number % 5 == 1:
            client.say(b"unread")
        else:
            assert client.ask(b"%d" % number) == b"%d" % number
        client.close()
    wait_for(lambda: 4 <= len(idle_children(toy.pid)) == len(toy.children()) <= 8, 10.0, "calm")
    assert descriptors_of(toy.pid) == before
    assert zombies_of(toy.pid) == []
    clients = [Client(toy.endpoint()) for _ in range(20)]    # every slot is still there
    assert len({client.pid for client in clients}) == 20
    for client in clients:
        client.close()
    assert not toy.log_lines("child_not_started")
    assert not toy.log_lines("child_failed")
