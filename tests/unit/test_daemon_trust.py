"""What only root may decide: settings at run time, and the files from which a daemon learns what to do."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from popular.config.kinds import Dir, File, Files
from popular.config.mistakes import Findings
from popular.config.setting import Schema, Setting
from popular.config.store import Config, Source, default_config, with_item, with_variable
from popular.control.answer import ControlAnswer
from popular.daemon.admin.control import Control
from popular.daemon.start.trial import try_as, try_trust
from popular.pcheckd.settings import SCHEMA as PCHECKD
from popular.pproxy.commands import commands
from popular.pproxy.settings import SCHEMA
from popular.proc.watch import Watch
from popular.pserv.commands import commands as pserv_commands
from popular.pserv.settings import SCHEMA as PSERV
from popular.ringd.settings import SCHEMA as RINGD
from popular.unix.descriptors import MastersOwn
from popular.unix.rights import Peer, Rights

IS_ROOT = os.geteuid() == 0
USER, OTHER = 4711, 4712    # uids


class FakeMaster:
    """A master with a Config, as far as commands without effects need one."""

    def __init__(self, schema: Schema, words: object, base: Config) -> None:
        self.config = self.base = base
        self.spec = SimpleNamespace(schema=schema, name=schema.program)
        self.watch = Watch(MastersOwn())
        self.log = SimpleNamespace(note=lambda *args, **facts: None)
        self.listeners: list[object] = []
        self.sessions, self.job, self.walls = None, SimpleNamespace(forget_answers=lambda: None), None
        self.control = Control(cast(Any, self), cast(Any, words), cast(Any, None), cast(Any, None))
        self.control._changes = cast(Any, self)
        self.control._inquiry = cast(Any, SimpleNamespace(is_over=False))    # so no process checks the modules

    def put(self, config: Config) -> None:
        """Use another Config."""
        self.config = config

    def want_no_end(self) -> None:
        """Do not end."""

    def tell(self, line: str, uid: int) -> str:
        """Obey a line of a user; returns the text of the answer, or `done`."""
        answer = self.control.obey(line, Peer(1, uid))
        assert isinstance(answer, ControlAnswer)
        return "done" if answer.ok else answer.text


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """An INI file."""
    path = tmp_path / "pproxy.conf"
    path.write_text("")
    return path


@pytest.fixture
def master(conf: Path, tmp_path: Path) -> FakeMaster:
    """A proxy whose file gives a folder of modules, a module and a backend."""
    config = with_variable(default_config(SCHEMA), SCHEMA, "pdmdir", str(tmp_path), starting=True)
    config = with_item(config, SCHEMA, "pdm", "users", {"module": "passwd", "args": "/etc/users"}, "file")
    config = with_item(config, SCHEMA, "backend", "store", {
        "protocol": "xpop", "address": "127.0.0.1:1", "cafile": "/etc/ca.pem"}, "file")
    return FakeMaster(SCHEMA, commands, Config(config.variables, config.objects, source=Source(str(conf), "")))


@pytest.mark.parametrize(("line", "what"), [
    ("set pdmdir /tmp", "pdmdir"),
    ("set capadir /tmp", "capadir"),
    ("set smtpafterpopfile /tmp/x", "smtpafterpopfile"),
    ("set ringd /tmp/x", "ringd"),
    ("pdm add more passwd /etc/shadow", "pdm more: module"),
    ("pdm load users passwd /etc/shadow", "pdm users: args"),
    ("backend set store cafile=/tmp/x", "backend store: cafile"),
    ("backend add new xpop 127.0.0.1:2 tls=implicit certificate=/tmp/x", "backend new: certificate"),
    ("vserv add main 127.0.0.1:0 tls=implicit certificate=/tmp/x", "vserv main: certificate"),
])
def test_what_loads_code_or_opens_a_path_is_roots(master: FakeMaster, conf: Path, line: str, what: str) -> None:
    before = master.config
    assert master.tell(line, USER) == f"{what}: only root and the owner of {conf} may change this at run time"
    assert master.config == before
    assert master.tell(line, 0) == "done"
    assert master.config != before


@pytest.mark.parametrize("line", [
    "set maxsession 7", "unset pdmdir", "pdm remove users", "pdm unset users", "pdm reload", "backend drain store",
    "backend set store cafile=", "backend set store tls=off", "backend add new xpop 127.0.0.1:2",
    "vserv add main 127.0.0.1:0",
])
def test_all_else_is_open_to_the_users_of_the_socket(master: FakeMaster, line: str) -> None:
    assert master.tell(line, USER) == "done"


def test_what_root_has_set_is_no_obstacle_later(master: FakeMaster) -> None:
    assert master.tell("set pdmdir /tmp", 0) == master.tell("set maxsession 7", USER) == "done"
    assert master.tell("unset pdmdir", USER) == "done"
    assert master.tell("set pdmdir /tmp", USER) != "done"


def test_the_values_of_the_file_may_come_back(master: FakeMaster, tmp_path: Path) -> None:
    assert master.tell("pdm remove users", USER) == "done"
    assert master.tell("pdm add users passwd /etc/users", USER) == "done"
    assert master.tell(f"set pdmdir {tmp_path}", USER) == "done"


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_the_owner_of_the_file_decides(master: FakeMaster, conf: Path) -> None:
    os.chown(conf, USER, USER)
    assert master.tell("set pdmdir /tmp", OTHER) != "done"
    assert master.tell("set pdmdir /tmp", USER) == "done"


@pytest.mark.skipif(not IS_ROOT, reason="only root gives folders away")
def test_without_a_file_the_owner_of_the_folder_decides(master: FakeMaster, conf: Path) -> None:
    conf.unlink()
    assert master.tell("set pdmdir /tmp", USER) != "done"
    os.chown(conf.parent, USER, USER)
    assert master.tell("set pdmdir /tmp", OTHER) != "done"
    assert master.tell("set pdmdir /tmp", USER) == "done"
    conf.parent.rmdir()
    assert master.tell("set capadir /usr", USER) != "done"


def test_pserv_has_such_settings_too(conf: Path) -> None:
    config = default_config(PSERV)
    pserv = FakeMaster(PSERV, pserv_commands, config)
    for line in ("set mailboxdir /", "server add main 127.0.0.1:0 tls=implicit certificate=/x clientca=/x"):
        assert pserv.tell(line, USER).endswith(": only root may change this at run time")


def rows() -> Iterable[Setting]:
    """Yield every row of every daemon."""
    for schema in (SCHEMA, PSERV, PCHECKD, RINGD):
        yield from schema.settings
        for cls in schema.classes:
            yield from cls.rows


def test_every_path_that_commands_can_change_is_roots() -> None:
    paths = [row for row in rows() if isinstance(row.kind, Dir | File | Files)]
    assert paths and [row.name for row in paths if not row.readonly and not row.root_only] == []


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
@pytest.mark.parametrize(("spoiled", "mode", "owner", "by_root", "is_told"), [
    pytest.param("", 0, 0, True, False, id="all is root's"),
    pytest.param("pproxy.conf", 0o644, USER, True, True, id="file of the user"),
    pytest.param("pproxy.conf", 0o400, USER, True, True, id="file of the user, who can change its mode"),
    pytest.param("pproxy.conf", 0o666, 0, True, True, id="file for everybody"),
    pytest.param(".", 0o777, 0, True, True, id="folder for everybody"),
    pytest.param(".", 0o1777, 0, True, False, id="folder like /tmp"),
    pytest.param("pdm", 0o755, USER, True, True, id="folder of modules"),
    pytest.param("pdm/pdm_own.py", 0o644, USER, True, True, id="module"),
    pytest.param("pdm/pdm_other.py", 0o644, USER, True, False, id="module that is not used"),
    pytest.param("pproxy.conf", 0o644, USER, False, False, id="the user's own configuration"),
    pytest.param("pproxy.conf", 0o666, 0, False, True, id="somebody else's configuration"),
])
def test_files_that_decide_are_not_to_be_the_users(rundir: Path, spoiled: str, mode: int, owner: int, by_root: bool,
                                                   is_told: bool) -> None:
    rundir.chmod(0o755)
    (rundir / "pdm").mkdir(mode=0o755)
    for name in ("pproxy.conf", "pdm/pdm_own.py", "pdm/pdm_other.py"):
        (rundir / name).write_text("")
        (rundir / name).chmod(0o644)
    if spoiled:
        (rundir / spoiled).chmod(mode)
        os.chown(rundir / spoiled, owner, owner)
    config = with_variable(default_config(SCHEMA), SCHEMA, "pdmdir", str(rundir / "pdm"), starting=True)
    config = with_item(config, SCHEMA, "pdm", "users", {"module": "own"}, "file")
    rights, findings = Rights("pop", USER, USER, (USER,)), Findings()
    path = str(rundir / "pproxy.conf")
    try_as(rights, lambda found: try_trust(path, config, rights, found, by_root=by_root), findings)
    assert [each.where for each in findings.warnings] == ([str(rundir / spoiled)] if is_told else [])
    assert all("user 'pop' can change it" in each.what for each in findings.warnings)
