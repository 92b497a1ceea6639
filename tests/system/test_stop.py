"""Stopping and going on: the signals of spec 1.4, with and without sessions."""

import os
import re
import signal
from pathlib import Path

import pytest

from popular.daemon.master.loop import GRACE
from tests.harness.system import descriptors_of, is_alive, title_of, wait_for
from tests.harness.toyclient import Background, Client, idle_children, is_refused, start_toy

USES = [pytest.param(1, id="one session a child"), pytest.param(3, id="some sessions a child")]


def has_gone(pid):
    return wait_for(lambda: not is_alive(pid), 10.0, f"the end of {pid}")


@pytest.mark.parametrize("maxuse", USES)
def test_spec_1_4_term_kills_all_children_and_ends(start, maxuse):
    toy = start_toy(start, maxuse=maxuse)
    with Client(toy.endpoint()) as client:
        child = client.pid
        everyone = toy.children()
        toy.signal(signal.SIGTERM)
        assert toy.wait(GRACE) == 0
        assert client.is_closed()
    assert child in everyone
    assert not any(is_alive(pid) for pid in everyone)
    assert is_refused(toy.endpoint())
    assert not (toy.rundir / "toy.pid").exists()
    assert toy.log_lines(" stopped ")[-1].endswith("command='shutdown all' children=0")


def test_a_child_that_does_not_hear_term_is_killed(start):
    toy = start_toy(start)
    with Client(toy.endpoint()) as client:
        client.ask(b"deaf")
        toy.signal(signal.SIGTERM)
        assert toy.wait(GRACE * 2) == 0
        assert client.is_closed()
    assert toy.log_lines(" children_killed count=1")


@pytest.mark.parametrize("maxuse", USES)
def test_spec_1_4_quit_ends_at_once_and_leaves_sessions_running(start, maxuse):
    toy = start_toy(start, maxuse=maxuse)
    with Client(toy.endpoint()) as client:
        child = client.pid
        idle = wait_for(lambda: pids if len(pids := idle_children(toy.pid)) == 4 else [])
        toy.signal(signal.SIGQUIT)
        assert toy.wait(5.0) == 0
        assert is_refused(toy.endpoint())
        assert all(has_gone(pid) for pid in idle)
        assert client.ask(b"still here") == b"still here"
    assert has_gone(child)
    assert re.search(r" stopped command='shutdown parent' children=[1-5]$", toy.log_lines()[-1])


def test_a_start_right_after_quit_gets_the_port(rundir):
    toy = Background(rundir, maxuse=3)
    assert toy.run().returncode == 0
    first, endpoint = toy.pid, toy.endpoints[0]
    with Client(endpoint) as client:
        child = client.pid
        os.kill(first, signal.SIGQUIT)
        assert has_gone(first)
        again = Background(rundir, address=endpoint)
        assert again.run().returncode == 0
        with Client(endpoint) as other:
            assert other.ask(b"new") == b"new"
        assert client.ask(b"old") == b"old"
    has_gone(child)
    again.stop()


@pytest.mark.parametrize("maxuse", USES)
def test_spec_1_4_pwr_waits_for_all_sessions(start, maxuse):
    toy = start_toy(start, maxuse=maxuse)
    with Client(toy.endpoint()) as client:
        child = client.pid
        toy.signal(signal.SIGPWR)
        wait_for(lambda: toy.children() == [child], 5.0, "the end of the idle children")
        assert is_refused(toy.endpoint())
        assert client.ask(b"take your time") == b"take your time"
        assert toy.process.poll() is None
    assert toy.wait(5.0) == 0
    assert toy.log_lines(" stopped ")[-1].endswith("command='shutdown delayed' children=0")


def test_term_ends_the_waiting_of_pwr(start):
    toy = start_toy(start)
    with Client(toy.endpoint()) as client:
        child = client.pid
        toy.signal(signal.SIGPWR)
        wait_for(lambda: toy.children() == [child])
        toy.signal(signal.SIGTERM)
        assert toy.wait(GRACE) == 0
        assert client.is_closed()


@pytest.mark.parametrize("maxuse", USES)
def test_spec_1_4_int_kills_all_children_and_goes_on(start, maxuse):
    toy = start_toy(start, maxuse=maxuse)
    with Client(toy.endpoint()) as client:
        assert client.pid in toy.children()
        before = toy.children()
        toy.signal(signal.SIGINT)
        assert client.is_closed()
    wait_for(lambda: not set(before) & set(toy.children()), 5.0, "the end of the old children")
    with Client(toy.endpoint()) as client:
        assert client.ask(b"again") == b"again"
    assert not toy.log_lines("child_died")


def test_spec_1_4_hup_reopens_the_log_and_replaces_idle_children(start):
    toy = start_toy(start)
    with Client(toy.endpoint()) as client:
        busy = client.pid
        idle = idle_children(toy.pid)
        moved = toy.logfile.rename(toy.logfile.with_suffix(".old"))
        toy.signal(signal.SIGHUP)
        toy.wait_log(" 0209 log_reopened")
        wait_for(lambda: not set(idle) & set(toy.children()), 5.0, "the end of the old idle children")
        assert client.ask(b"undisturbed") == b"undisturbed"
        assert busy in toy.children()
    wait_for(lambda: len(idle_children(toy.pid)) == len(toy.children()) == 4)
    for pid in (toy.pid, *toy.children()):
        files = descriptors_of(pid).values()
        assert str(toy.logfile) in files
        assert str(moved) not in files
    assert " 0001 start " in moved.read_text()


def test_a_log_that_cannot_be_reopened_stays_in_use(start):
    toy = start_toy(start)
    old = toy.logfile.rename(toy.logfile.with_suffix(".old"))
    toy.logfile.mkdir()
    toy.signal(signal.SIGHUP)
    wait_for(lambda: " 020a log_not_reopened " in old.read_text(), 5.0, "the line in the old log")
    with Client(toy.endpoint()) as client:
        assert client.ask(b"on") == b"on"
    toy.logfile.rmdir()
    old.rename(toy.logfile)


def test_a_storm_of_hup_loses_no_connection(start):
    toy = start_toy(start, maxuse=2)
    for number in range(100):
        toy.signal(signal.SIGHUP)
        with Client(toy.endpoint()) as client:
            assert client.ask(b"%d" % number) == b"%d" % number
    assert not toy.log_lines("child_not_started")


def test_spec_1_4_a_handler_is_installed_for_the_first_user_signal(start):
    toy = start_toy(start)
    toy.signal(signal.SIGUSR1)
    toy.signal(signal.SIGHUP)
    toy.wait_log("log_reopened")
    assert toy.process.poll() is None


@pytest.mark.parametrize("name", ["TERM", "QUIT", "INT", "HUP"])
def test_spec_1_4_children_have_default_handling(start, name):
    toy = start_toy(start)
    number = signal.Signals[f"SIG{name}"]
    with Client(toy.endpoint()) as client:
        child = client.pid
        status = Path(f"/proc/{child}/status").read_text()
        for field in ("SigBlk", "SigIgn", "SigCgt"):
            mask = int(re.search(rf"{field}:\s*(\w+)", status).group(1), 16)
            assert not mask & 1 << (number - 1), field
        os.kill(child, number)
        assert client.is_closed()
    toy.wait_log(f"child_died child={child} how='SIG{name}'")


def test_titles_say_who_does_what(start):
    toy = start_toy(start)
    with Client(toy.endpoint()) as client:
        assert title_of(client.pid) == f"toy: ECHO toy-{client.pid}.1 127.0.0.1"
        assert title_of(toy.pid) == "toy: master"
        assert wait_for(lambda: len(idle_children(toy.pid)) == 4)
