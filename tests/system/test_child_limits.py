"""What a child may use, memory and processor time: a module that wants more harms one session."""

from collections.abc import Callable

from tests.harness.control import variable
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, FAILED, PASSWORD, StartOdd

Pop = Callable[..., PopClient]


def test_a_child_that_computes_for_ever_is_ended(odd: StartOdd, pop: Pop) -> None:
    proxy = odd("while True:\n    pass", maxcpu="1s", pdmtimeout="300s")
    client = pop(proxy.endpoint())
    client.greeting()
    client.ok("USER joe")
    client.send(f"PASS {PASSWORD}\r\n".encode())
    assert client.rest() == b""
    assert " how='SIGXCPU'" in proxy.wait_log(" child_died ")[0]
    assert "outcome='cut off: SIGXCPU'" in proxy.wait_log(" session_end ")[0]


def test_the_limits_are_for_children_and_are_shown(odd: StartOdd, pop: Pop) -> None:
    proxy = odd("bytearray(100 << 20)\nreturn OK", maxmemory=160, pdmtimeout="30s")
    assert (variable(proxy, "maxmemory"), variable(proxy, "maxcpu")) == ("160", "10m")
    assert pop(proxy.endpoint()).login("joe", PASSWORD).startswith(EMPTY)
    proxy.stop()
    proxy = odd("bytearray(100 << 20)\nreturn OK", maxmemory=96, pdmtimeout="30s")
    assert pop(proxy.endpoint()).login("joe", PASSWORD).startswith(FAILED)


def test_pooled_children_and_the_master_may_compute_for_ever(odd: StartOdd, pop: Pop) -> None:
    deed = "began = time.process_time()\nwhile time.process_time() < began + 1.5:\n    pass\nreturn OK"
    proxy = odd(deed, maxcpu="1s", pdmtimeout="30s", maxuse=10, maxspare=1, minspare=1)
    for _ in range(2):
        client = pop(proxy.endpoint())
        assert client.login("joe", PASSWORD).startswith(EMPTY)
        client.ok("QUIT")
    assert not proxy.log_lines("child_died")
