"""Deaths that nobody asked for: of children, of the master, and a system that runs out of things."""

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from tests.harness.system import children_of, descriptors_of, is_alive, state_of, wait_for, zombies_of
from tests.harness.toyclient import Background, Client, idle_children, start_toy

USES = [pytest.param(1, id="one session a child"), pytest.param(3, id="some sessions a child")]


def test_a_crash_ends_one_session_and_is_one_line_without_the_text(start, request):
    request.node.add_marker(pytest.mark.may_bug)
    toy = start_toy(start)
    with Client(toy.endpoint()) as client, Client(toy.endpoint()) as other:
        child = client.pid
        client.say(b"crash")
        assert client.is_closed()
        assert other.ask(b"on") == b"on"
    line = toy.wait_log(" child_failed ")[0]
    assert f" toy-{child}.1 BUG 0200 " in line
    assert "type='KeyError' trace='toy.py:" in line
    assert "secret" not in "\n".join(toy.log_lines())
    assert toy.stderr() == ""


def test_spec_5_2_a_master_that_ends_by_itself_says_0004(start, rundir, request):
    request.node.add_marker(pytest.mark.may_bug)
    toy = start_toy(start, fault=rundir / "fault")
    (rundir / "fault").write_text("lost")
    with Client(toy.endpoint()) as client:
        child = client.pid
        assert toy.wait() != 0
        assert client.ask(b"on") == b"on"
    wait_for(lambda: not is_alive(child), 5.0)
    line = toy.log_lines(" BUG 0004 left_main_loop ")[0]
    assert "type='LookupError' trace='toy.py:" in line
    assert "secret" not in line


def test_term_to_newborn_children_is_never_lost(start):
    toy = start_toy(start, minspare=1, maxspare=1)
    for _ in range(100):
        before = set(wait_for(lambda: idle_children(toy.pid)))
        os.kill(min(before), signal.SIGKILL)
        newborn = wait_for_child(toy.pid, before)
        os.kill(newborn, signal.SIGTERM)
        wait_for(lambda: newborn not in toy.children(), 5.0, "the end of a newborn child")
    with Client(toy.endpoint()) as client:
        assert client.ask(b"on") == b"on"


def wait_for_child(master, known):
    """Return the first child that is not known, as soon as it is there."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        new = [pid for pid in children_of(master) if pid not in known]
        if new:
            return new[0]
    raise AssertionError("no new child")


def test_fifty_children_killed_at_once(start):
    toy = start_toy(start, minspare=50, maxspare=50)
    wait_for(lambda: len(idle_children(toy.pid)) == 50)
    victims = toy.children()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not set(victims) & set(toy.children()), 10.0, "the collecting of the dead")
    wait_for(lambda: len(idle_children(toy.pid)) == 50, 10.0, "fifty new children")
    assert zombies_of(toy.pid) == []
    assert not toy.log_lines("child_not_started")


@pytest.mark.parametrize("maxuse", USES)
def test_after_kill_9_of_the_master_idle_children_leave_and_sessions_finish(rundir, maxuse):
    toy = Background(rundir, maxuse=maxuse)
    assert toy.run().returncode == 0
    master, endpoint = toy.pid, toy.endpoints[0]
    with Client(endpoint) as client:
        child = client.pid
        idle = idle_children(master)
        os.kill(master, signal.SIGKILL)
        again = Background(rundir, address=endpoint)
        done = again.run()    # at once, nothing cleaned by hand
        assert (done.returncode, done.stderr) == (0, "")
        wait_for(lambda: not any(is_alive(pid) for pid in idle), 5.0, "the end of the idle children")
        assert client.ask(b"still here") == b"still here"
        with Client(endpoint) as other:
            assert other.ask(b"new") == b"new"
    wait_for(lambda: not is_alive(child), 5.0, "the end of the last old child")
    again.stop()


@pytest.mark.parametrize("maxuse", [2, 1000])
def test_a_busy_child_gives_its_listeners_up_when_the_master_dies(rundir, maxuse):
    toy = Background(rundir, maxuse=maxuse)
    assert toy.run().returncode == 0
    with Client(toy.endpoints[0]) as client:
        sockets = [target for target in descriptors_of(client.pid).values() if target.startswith("socket:")]
        assert len(sockets) == 2    # the listener and the client
        child, master = client.pid, toy.pid
        os.kill(master, signal.SIGSTOP)    # so that it forks nobody who is not in the list
        wait_for(lambda: state_of(master) == "T", 5.0, "the master to stop")
        family = children_of(master)
        os.kill(master, signal.SIGKILL)
        wait_for(lambda: len([target for target in descriptors_of(client.pid).values()
                              if target.startswith("socket:")]) == 1, 5.0, "the listener to be closed")
        assert client.ask(b"on") == b"on"
        assert is_alive(child)
    wait_for(lambda: not any(is_alive(pid) for pid in family), 5.0, "the end of all children")


def test_children_that_cannot_start_are_forked_ever_more_slowly(start, rundir):
    fault, count = rundir / "fault", rundir / "fault.count"
    toy = start_toy(start, fault=fault, minspare=4)
    started = time.monotonic()
    fault.write_text("nostart")
    for pid in toy.children():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: time.monotonic() - started > 4, 6.0)
    assert 4 <= count.stat().st_size <= 4 + 6    # one batch, then after 0.2, 0.4, 0.8 … s, one at a time
    assert len(toy.wait_log(" child_not_started ")) == 1
    fault.unlink()
    wait_for(lambda: len(idle_children(toy.pid)) == 4, 10.0, "recovery")
    with Client(toy.endpoint()) as client:
        assert client.ask(b"on") == b"on"


def test_a_child_that_crashed_later_slows_nobody_down(start, request):
    request.node.add_marker(pytest.mark.may_bug)
    toy = start_toy(start)
    for _ in range(30):
        with Client(toy.endpoint()) as client:
            client.pid
            client.say(b"crash")
            assert client.is_closed()
    wait_for(lambda: 4 <= len(idle_children(toy.pid)) <= 8, 2.0, "full strength")
    assert not toy.log_lines("child_not_started")


def test_when_fork_fails_the_daemon_stays_up_and_recovers(start, rundir):
    fault, count = rundir / "fault", rundir / "fault.count"
    toy = start_toy(start, fault=fault)
    fault.write_text("nofork")
    clients = [Client(toy.endpoint()) for _ in range(5)]
    assert all(client.ask(b"on") == b"on" for client in clients[:4])
    wait_for(lambda: count.exists() and count.stat().st_size >= 3, 10.0, "three tries")
    assert count.stat().st_size <= 10
    assert len(toy.log_lines(" fork_failed ")) == 1
    fault.unlink()
    assert clients[4].ask(b"on") == b"on"
    for client in clients:
        client.close()


def test_when_descriptors_run_out_children_wait_and_recover(start):
    toy = start_toy(start)
    children = toy.children()
    wait_for(lambda: all("anon_inode:[eventpoll]" in descriptors_of(pid).values() for pid in children))
    limits = resource.prlimit(children[0], resource.RLIMIT_NOFILE)
    for pid in children:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with Client(toy.endpoint()) as client:
        toy.wait_log(" child_short error='Too many open files'")
        before = sum(ticks(pid) for pid in children)
        started = time.monotonic()
        wait_for(lambda: time.monotonic() - started > 2.5, 5.0)
        assert sum(ticks(pid) for pid in children) - before < 20    # no busy loop
        assert len(toy.log_lines("child_short")) == 1
        assert toy.children() == children
        for pid in children:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert client.ask(b"on") == b"on"


def ticks(pid):
    """Return the processor time of a process in 1/100 s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_master_without_descriptors_throttles_and_recovers(start):
    toy = start_toy(start)
    wait_for(lambda: len(idle_children(toy.pid)) == 4)
    limits = resource.prlimit(toy.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(toy.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    toy.signal(signal.SIGINT)
    toy.wait_log(" child_not_started ")
    resource.prlimit(toy.pid, resource.RLIMIT_NOFILE, limits)
    wait_for(lambda: len(idle_children(toy.pid)) == 4, 10.0, "recovery")
    assert len(toy.log_lines("child_short")) == 1
