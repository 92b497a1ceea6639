"""The parts of the skeleton that need no process: hand-over, ids, settings, signals, search path, ports."""

import json
import os
import socket
import sys
import time

import pytest

from popular.addresses import Endpoint
from popular.config.store import default_config, with_variable
from popular.daemon.child.session import new_sid
from popular.daemon.logs import open_sink
from popular.daemon.master.loop import Master
from popular.daemon.settings import pool_limits, pool_mistakes
from popular.daemon.signals import SIGNALS
from popular.daemon.spec import DaemonSpec, Listen
from popular.daemon.start import launch
from popular.daemon.start.handover import HandOver, Handle
from popular.errors import StartError
from popular.names import is_sid
from popular.paths import package_path
from popular.proc.pool import PoolLimits
from popular.unix.descriptors import ReservedDescriptors
from popular.unix.rights import Rights, own_rights
from tests.harness.toy import SCHEMA, SPEC


def config_with(**texts):
    config = default_config(SCHEMA)
    for name, text in texts.items():
        config = with_variable(config, SCHEMA, name, text, starting=True)
    return config


def test_a_hand_over_arrives_as_it_was():
    hand = HandOver(
        program="toy", version="2.0.0", module="tests.harness.toy", config="{}", path=("/a", "/b c"), prefix="/v",
        rights=Rights("pop", 10, 20, (20, 30)), drops=True, detached=False, log_fd=7,
        pid_path="/p", pid_fd=8, ready_fd=None, reserved=ReservedDescriptors(4, 5, 3),
        handles=(Handle("main", 9), Handle("alt", 10)), argv=("-c", "x y"), folder="/f")
    with open(hand.write(), "rb") as file:
        assert HandOver.from_raw(json.load(file)) == hand
    assert hand.descriptors == [7, 8, 4, 5, 3, 9, 10]


@pytest.mark.parametrize("number, wanted", [(1, "p1-261124071819-4712"), (2, "p1-261124071819-4712.2")])
def test_spec_5_1_session_ids_are_made_of_prefix_time_and_pid(number, wanted):
    now = time.mktime((2026, 11, 24, 7, 18, 19, 0, 0, -1))
    sid = new_sid("p1", 4712, number, now)
    assert sid == wanted
    assert is_sid(sid)


def test_settings_become_limits():
    assert pool_limits(config_with()) == PoolLimits(4, 8, 1000, 1)
    assert pool_limits(config_with(maxsession="5000", sessionlimit="50")).limit == 50


def test_spares_must_fit_together():
    assert pool_mistakes(config_with()) == []
    assert [str(each) for each in pool_mistakes(config_with(minspare="9"))] == [
        "[toy] maxspare: maxspare = 8 is less than minspare, which is 9"]


def test_spec_1_2_read_only_variables():
    rows = {row.name: row for row in SCHEMA.settings}
    assert all(rows[name].readonly for name in ("id", "pid", "rundir", "sessionlimit", "version"))
    assert rows["rundir"].option == ("-r", "--rundir")
    assert rows["logfile"].option == ("-l", "--logfile")


def test_spec_1_4_every_signal_has_its_command():
    assert {row.number.name: row.command for row in SIGNALS} == {
        "SIGTERM": "shutdown all", "SIGINT": "shutdown children", "SIGQUIT": "shutdown parent",
        "SIGPWR": "shutdown delayed", "SIGHUP": "reopen", "SIGUSR2": "upgrade"}
    assert all(callable(getattr(Master, row.method)) and row.text for row in SIGNALS)


def test_the_module_of_a_spec_goes_by_its_name():
    assert SPEC.import_name == "tests.harness.toy"
    fields = {name: getattr(SPEC, name) for name in DaemonSpec.__slots__}
    assert DaemonSpec(**{**fields, "module": "", "name": "pproxy"}).import_name == "popular.pproxy.spec"


def test_the_master_s_search_path_is_absolute_and_finds_this_package(monkeypatch):
    root = package_path()
    monkeypatch.setattr(sys, "path", ["", "relative", "/x"])
    assert launch.search_path() == (root, "/x")
    monkeypatch.setattr(sys, "path", ["/x", root])
    assert launch.search_path() == ("/x", root)


@pytest.fixture
def bound():
    found = []
    yield found
    for listener in found:
        listener.sock.close()


def test_all_ports_are_bound_with_their_owners(bound):
    wanted = [Listen("tcp", "a", Endpoint("127.0.0.1", 0), 5), Listen("udp", "b", Endpoint("::1", 0), 0)]
    bound += launch.bind_all(wanted, 0.0)
    assert [(listener.owner, listener.is_stream) for listener in bound] == [("a", True), ("b", False)]
    assert all(listener.endpoint.port for listener in bound)


def test_a_port_that_becomes_free_in_time_is_taken(bound, monkeypatch):
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    monkeypatch.setattr(launch.time, "sleep", lambda seconds: holder.close())
    bound += launch.bind_all([Listen("tcp", "a", Endpoint("127.0.0.1", port), 5)], 5.0)
    assert bound[0].endpoint.port == port


def test_a_port_in_use_is_not_waited_for_without_reason(bound, monkeypatch):
    monkeypatch.setattr(launch.time, "sleep", lambda seconds: pytest.fail("waited"))
    with socket.create_server(("127.0.0.1", 0)) as holder:
        with pytest.raises(StartError, match=str(holder.getsockname()[1])):
            launch.bind_all([Listen("tcp", "a", Endpoint("127.0.0.1", holder.getsockname()[1]), 5)], 0.0)


def test_others_reach_a_socket_in_a_new_run_folder(tmp_path):
    """Postfix is neither the service user nor in their group."""
    path, mask = tmp_path / "run", os.umask(0o027)
    try:
        launch.make_rundir(str(path), own_rights())
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o751


def test_a_folder_that_exists_is_left_as_it_is(tmp_path):
    tmp_path.chmod(0o711)
    launch.make_rundir(str(tmp_path), own_rights())
    assert tmp_path.stat().st_mode & 0o777 == 0o711


@pytest.mark.skipif(os.geteuid() != 0, reason="only root opens files for others")
class TestRoot:
    """What root does for the service user, and what root must not be led to."""

    POP = Rights("nobody", 65534, 65534, (65534,))

    def test_a_log_in_root_s_folder_is_made_for_the_user(self, tmp_path):
        path = tmp_path / "toy"
        for folder in tmp_path.parents:
            if folder.stat().st_mode & 0o011 == 0 and str(folder).startswith("/tmp/"):
                folder.chmod(0o711)
        tmp_path.chmod(0o711)
        sink = open_sink(config_with(logfile=str(path)), self.POP)
        assert path.stat().st_uid == self.POP.uid
        os.close(sink.fileno())

    def test_a_log_that_belongs_to_another_is_refused(self, tmp_path):
        path = tmp_path / "toy"
        path.write_text("root's")
        path.chmod(0o600)
        with pytest.raises(StartError, match="must belong to nobody"):
            open_sink(config_with(logfile=str(path)), self.POP)
        assert path.stat().st_uid == 0

    def test_a_symbolic_link_of_the_user_leads_root_nowhere(self, tmp_path):
        victim, path = tmp_path / "victim", tmp_path / "toy"
        path.symlink_to(victim)
        tmp_path.chmod(0o700)
        with pytest.raises(StartError):
            open_sink(config_with(logfile=str(path)), self.POP)
        assert not victim.exists()

    def test_a_run_folder_is_made_for_the_user(self, tmp_path):
        path = tmp_path / "run"
        launch.make_rundir(str(path), self.POP)
        assert (path.stat().st_uid, path.stat().st_gid) == (self.POP.uid, self.POP.gid)
