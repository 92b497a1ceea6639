"""Database modules that do what no module should: the client has an answer, the daemon lives, the log tells."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.harness.control import tell
from tests.harness.logs import read_classic
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, FAILED, PASSWORD, StartOdd
from tests.harness.system import children_of, is_alive, wait_for

Pop = Callable[..., PopClient]


@pytest.mark.parametrize("maxuse", [1, 1000])
@pytest.mark.parametrize(("deed", "why"), [
    pytest.param("raise KeyboardInterrupt", "KeyboardInterrupt at ", id="interrupts"),
    pytest.param("raise GeneratorExit", "GeneratorExit at ", id="ends a generator"),
    pytest.param("raise BaseException", "BaseException at ", id="panics"),
    pytest.param("raise SystemExit(0)", "SystemExit at ", id="exits"),
    pytest.param("bytearray(10 << 30)", "MemoryError at ", id="10 GB at once"),
    pytest.param("kept = []\nwhile True:\n    kept.append(bytearray(10 << 20))", "MemoryError at ",
                 id="10 GB by and by"),
    pytest.param("try:\n    time.sleep(600)\nexcept:\n    return UNKNOWN", "no answer within 0.3 s",
                 id="swallows the limit"),
])
def test_what_is_raised_is_a_failure_that_the_client_hears(odd: StartOdd, pop: Pop, deed: str, why: str,
                                                           maxuse: int) -> None:
    proxy = odd(deed, maxuse=maxuse, maxmemory=128, pdmtimeout="30s" if "bytearray" in deed else "300ms")
    client = pop(proxy.endpoint())
    assert client.login("joe", PASSWORD).startswith(FAILED)
    client.ok("NOOP")
    client.ok("QUIT")
    [line] = proxy.wait_log(" login_failed ")
    assert f"why='{why}" in line
    proxy.wait_log(" session_end ")
    assert not proxy.log_lines("child_")


LOOPS = """
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""
DEAF = """
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize(("deed", "maxuse"), [
    pytest.param(LOOPS, 1, id="swallows the limit"), pytest.param(DEAF, 1000, id="hears no signal")])
def test_the_master_ends_what_never_logs_in(odd: StartOdd, pop: Pop, deed: str, maxuse: int) -> None:
    proxy = odd(deed, authtimeout="1s", maxuse=maxuse)
    client = pop(proxy.endpoint(), timeout=40.0)
    client.greeting()
    client.ok("USER joe")
    client.send(f"PASS {PASSWORD}\r\n".encode())
    assert client.rest() == b""
    [started] = map(read_classic, proxy.log_lines(" session_start "))
    [overdue] = map(read_classic, proxy.wait_log(" child_overdue "))
    assert overdue.session == started.session
    assert (overdue.fields["child"], overdue.fields["client"]) == (started.pid, started.fields["client"])
    [ended] = map(read_classic, proxy.wait_log(" session_end "))
    assert (ended.session, ended.fields["outcome"]) == (started.session, b"cut off: overdue")
    assert not is_alive(started.pid)
    assert not proxy.log_lines("child_died")


def test_the_master_ends_what_was_to_end_and_hears_no_signal(odd: StartOdd, pop: Pop) -> None:
    proxy = odd(DEAF, authtimeout="1s", maxuse=1000)
    client = pop(proxy.endpoint(), timeout=40.0)
    client.greeting()
    client.ok("USER joe")
    client.send(f"PASS {PASSWORD}\r\n".encode())
    [started] = map(read_classic, proxy.log_lines(" session_start "))
    wait_for(lambda: "SigBlk:\t0000000000000000" not in Path(f"/proc/{started.pid}/status").read_text(), 5.0)
    tell(proxy, f"session kill {started.session}")
    assert client.rest() == b""
    [ended] = map(read_classic, proxy.wait_log(" session_end "))
    assert ended.fields["outcome"] == b"cut off: session kill"
    assert not is_alive(started.pid)
    assert not proxy.log_lines("child_")


def test_the_master_leaves_sessions_alone_that_have_logged_in(odd: StartOdd, pop: Pop) -> None:
    """Though the module has blocked all signals."""
    proxy = odd("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nreturn OK", authtimeout="1s")
    client = pop(proxy.endpoint())
    assert client.login("joe", PASSWORD).startswith(EMPTY)
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 7.5, 20.0)    # it would be over after 6.3 s
    client.ok("STAT")
    client.ok("QUIT")
    proxy.wait_log(" session_end ")
    assert not proxy.log_lines("child_")


def test_the_master_leaves_clients_alone_that_take_their_time_where_they_may(odd: StartOdd, pop: Pop) -> None:
    proxy = odd("return OK", authtimeout=0)
    client = pop(proxy.endpoint())
    client.greeting()
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 12.5, 25.0)    # it was asked after 5.6 s, and had as long to answer
    client.ok("USER joe")
    assert client.command(f"PASS {PASSWORD}").startswith(EMPTY)
    assert not proxy.log_lines("child_")


@pytest.mark.parametrize("maxuse", [1, 1000])
def test_a_module_that_ends_its_process_leaves_its_lines(odd: StartOdd, pop: Pop, maxuse: int) -> None:
    proxy = odd("os._exit(0)", maxuse=maxuse)
    client = pop(proxy.endpoint())
    client.greeting()
    client.ok("USER joe")
    client.send(f"PASS {PASSWORD}\r\n".encode())
    assert client.rest() == b""
    [ended] = map(read_classic, proxy.wait_log(" session_end "))
    assert (ended.fields["outcome"], ended.fields["user"]) == (b"cut off: exit code 0", b"joe")
    assert " how='exit code 0'" in proxy.wait_log(" child_died ")[0]


@pytest.mark.parametrize("fork", ["os.fork()", "os.forkpty()[0]"])
def test_a_copy_of_a_child_answers_nobody(odd: StartOdd, pop: Pop, fork: str) -> None:
    proxy = odd(f"copy = {fork}\nif copy:\n    os.waitpid(copy, 0)\nreturn OK", maxuse=1000, confinement="off")
    client = pop(proxy.endpoint())
    assert client.login("joe", PASSWORD).startswith(EMPTY)
    client.ok("STAT")
    client.send(b"QUIT\r\n")
    assert client.rest().count(b"\r\n") == 1
    copied = read_classic(proxy.wait_log(" child_copied ")[0])
    ended = read_classic(proxy.wait_log(" session_end ")[0])
    assert (copied.fields["child"], copied.session) == (ended.pid, ended.session)
    assert not is_alive(copied.pid)
    assert len(proxy.log_lines(" session_end ")) == len(proxy.log_lines(" login ")) == 1


def test_a_copy_that_goes_on_by_itself_ends_too(odd: StartOdd, pop: Pop) -> None:
    proxy = odd("if os.fork() == 0:\n    time.sleep(600)\nreturn OK", maxuse=1000, confinement="off")
    client = pop(proxy.endpoint())
    assert client.login("joe", PASSWORD).startswith(EMPTY)
    proxy.wait_log(" child_copied ")
    wait_for(lambda: not any(is_alive(pid) for child in proxy.children() for pid in children_of(child)), 5.0)


@pytest.mark.parametrize("variables", [
    pytest.param({"blocking": True, "pdmtimeout": "30s"}, id="in a worker"),
    pytest.param({"confinement": "off", "pdmtimeout": "30s"}, id="without walls")])
def test_a_module_may_run_programs(odd: StartOdd, pop: Pop, variables: Mapping[str, object]) -> None:
    proxy = odd("assert subprocess.run(['sh', '-c', 'exit 3']).returncode == 3\nreturn OK", **variables)
    assert pop(proxy.endpoint()).login("joe", PASSWORD).startswith(EMPTY)


@pytest.mark.parametrize("deed", ["os.fork()", "subprocess.run(['true'])"])
def test_a_module_that_starts_a_process_in_a_child_has_an_error(odd: StartOdd, pop: Pop, deed: str) -> None:
    proxy = odd(f"{deed}\nreturn OK")
    assert pop(proxy.endpoint()).login("joe", PASSWORD).startswith(FAILED)
    assert "why='Operation not permitted" in proxy.wait_log(" login_failed ")[0]


PRINTS = """
print("asked", request.password)
os.write(2, b"raw " + request.password + b"\\n")
subprocess.run(["echo", "program", request.password])
return OK
"""


@pytest.mark.parametrize("maxuse", [1, 1000])
def test_what_a_module_prints_goes_to_the_log_without_the_password(odd: StartOdd, pop: Pop, maxuse: int) -> None:
    proxy = odd(PRINTS, maxuse=maxuse, confinement="off")
    for _ in range(2):
        client = pop(proxy.endpoint())
        assert client.login("joe", PASSWORD).startswith(EMPTY)
        client.ok("QUIT")
    lines = [read_classic(line) for line in proxy.wait_log(" pdm_output ", count=6)]
    assert [line.fields["text"] for line in lines] == [b"asked b'***'", b"raw ***", b"program ***"] * 2
    assert {line.fields["module"] for line in lines} == {b"odd"}
    assert {line.session for line in lines} == {read_classic(line).session for line in proxy.log_lines(" login ")}
    assert "sesame" not in "".join(proxy.log_lines()) + proxy.stderr()
