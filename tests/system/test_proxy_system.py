"""pproxy, pserv and pcheckd together, over one spool."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import CASPER, PASSWORD, XENIA, StartProxy, store
from tests.harness.system import wait_for

MESSAGE = b"Subject: x\r\n\r\nx\r\n"

Pop = Callable[..., PopClient]


def test_spec_5_1_one_session_id_in_both_logs(system: dict[str, Daemon], pop: Pop,
                                              make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("c/casper", new=[MESSAGE])
    client = pop(system["pproxy"].endpoint())
    assert client.login(CASPER, PASSWORD).startswith(b"+OK")
    assert client.command("STAT") == b"+OK 1 %d" % len(MESSAGE)
    assert client.message(1) == MESSAGE
    client.ok("QUIT")
    (end,) = system["pproxy"].wait_log("session_end")
    sid = end.split(" ")[5]
    assert re.fullmatch(r"px-\d{12}-\d+", sid) and sid.rpartition("-")[2] == end.split(" ")[4]
    assert system["pserv"].wait_log(f" {sid} INF ")


def test_session_ids_are_unique_when_children_serve_several(system: dict[str, Daemon], pop: Pop, proxy: StartProxy,
                                                            make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("x/xenia", new=[MESSAGE])
    daemon = proxy(store(system["pserv"].endpoint()), name="second", maxuse=10, minspare=1, maxspare=1)
    for _ in range(6):
        client = pop(daemon.endpoint())
        assert client.login(XENIA, PASSWORD).startswith(b"+OK")
        client.ok("QUIT")
        assert client.rest() == b""
    ids = [line.split(" ")[5] for line in daemon.wait_log("session_end", count=6)]
    assert len(set(ids)) == 6
    for sid in ids:
        system["pserv"].wait_log(f" {sid} INF ")


def test_an_empty_mailbox_never_reaches_pserv(system: dict[str, Daemon], pop: Pop,
                                              make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("c/casper")
    client = pop(system["pproxy"].endpoint())
    assert client.login(CASPER, PASSWORD).startswith(b"+OK")
    assert client.command("STAT") == b"+OK 0 0"
    client.ok("QUIT")
    (end,) = system["pproxy"].wait_log("session_end")
    assert system["pserv"].stop() == 0
    assert system["pserv"].log_lines(end.split(" ")[5]) == []
    client = pop(system["pproxy"].endpoint())    # and so it works without pserv
    assert client.login(CASPER, PASSWORD).startswith(b"+OK")
    assert client.command("STAT") == b"+OK 0 0"


def test_a_missing_mailbox_is_an_empty_one(system: dict[str, Daemon], pop: Pop) -> None:
    assert pop(system["pproxy"].endpoint()).login(CASPER, PASSWORD).startswith(b"+OK 0 ")
    system["pproxy"].wait_log("mailbox_empty")


def test_spec_7_3_a_master_session_leaves_new_mail_new(
        start: Callable[..., Daemon], system: dict[str, Daemon], pop: Pop, rundir: Path,
        make_mailbox: Callable[..., Path]) -> None:
    folder = make_mailbox("x/xenia", new=[MESSAGE, MESSAGE])
    (rundir / "master").write_text("127.0.0.1:default:{PLAIN}master word\n")
    (rundir / "master").chmod(0o600)
    daemon = start("pproxy", {
        "pproxy": {"authdelay": 0}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(system["pserv"].endpoint()),
        "pdm": {"users": {"module": "passwd", "args": rundir / "users"},
                "support": {"module": "master", "args": rundir / "master"}}}, name="second")
    client = pop(daemon.endpoint())
    assert client.login(XENIA, "master word").startswith(b"+OK")
    client.message(1)
    client.ok("QUIT")
    assert client.rest() == b""
    assert len(list((folder / "new").iterdir())) == 2
    client = pop(daemon.endpoint())
    assert client.login(XENIA, PASSWORD).startswith(b"+OK")
    client.message(1)
    client.ok("QUIT")
    wait_for(lambda: len(list((folder / "new").iterdir())) == 1 and len(list((folder / "cur").iterdir())) == 1)
