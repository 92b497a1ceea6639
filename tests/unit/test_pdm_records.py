"""What modules of every database share: names that can be looked up, and the question of a probe."""

import time

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Outcome
from popular.pdm.records import PROBE_SECONDS, key_of, user_octets, probe_server


@pytest.mark.parametrize("user, octets, is_key", [
    ("joe", b"joe", True), ("j\udcffe", b"j\xffe", True), ("jöe", "jöe".encode(), True), ("a" * 255, b"a" * 255, True),
    ("a:b", b"a:b", False), ("#a", b"#a", False), ("", b"", False), ("' OR 1=1 --", b"' OR 1=1 --", True),
    ("a" * 256, None, False), ("ö" * 128, None, False), ("a\0b", None, False), ("a\nb", None, False),
    ("a\rb", None, False), ("a\ud800", None, False),
])
def test_names_that_can_be_looked_up(user, octets, is_key):
    assert user_octets(user) == octets
    assert key_of(user) == (octets if is_key else None)


def test_a_probe_asks_for_a_user_who_does_not_exist_and_does_not_wait_for_ever():
    asked = []
    probe_server(lambda request: asked.append(request) or UNKNOWN)
    probe_server(lambda request: asked.append(request) or Answer(Outcome.DENIED))
    assert len({request.user for request in asked}) == 1
    assert all(0 < request.deadline - time.monotonic() <= PROBE_SECONDS for request in asked)


def test_a_probe_tells_why_it_failed():
    with pytest.raises(PdmError, match="^out of order$"):
        probe_server(lambda request: Answer(Outcome.FAILED, why="out of order"))
