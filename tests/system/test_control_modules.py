"""Control commands that put database modules in force: what they say of modules that cannot be asked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import control, tell
from tests.harness.daemon import Daemon
from tests.harness.proxy import start_proxy, store
from tests.harness.system import title_of, wait_for

NOWHERE = Endpoint("127.0.0.1", 1)
MODULE = """\
import os, time
from popular.pdm.api import PdmModule, UNKNOWN

class Module(PdmModule):
    API = (1, 1)
    blocking = {blocking}
    def check(self, request):
        return UNKNOWN
    def find(self, user, namespace):
        {find}
"""

Start = Callable[..., Daemon]


@pytest.fixture
def modules(rundir: Path) -> Path:
    """A folder for modules."""
    folder = rundir / "pdm"
    folder.mkdir(mode=0o755)
    return folder


def asking(proxy: Daemon) -> bool:
    """Tell whether a process is finding something out."""
    return any("asking" in title_of(pid) for pid in proxy.children())


def test_a_module_that_cannot_be_asked_is_in_force_and_warned_of(start: Start, rundir: Path) -> None:
    proxy = start_proxy(start, rundir, store(NOWHERE))
    add, warning = "pdm add bad passwd /no/such/file", "warning: bad: No such file or directory: /no/such/file"
    for text in ("pdm bad added", "pdm bad unchanged"):
        [reply] = tell(proxy, add)
        assert (reply.text, reply.lines) == (text, (warning,))
    assert [reply.lines for reply in tell(proxy, "pdm reload", "pdm reload bad", "pdm reload users")] == [
        (warning,), (warning,), ()]
    lines = proxy.wait_log("pdm_failed", count=4)
    assert "module='bad'" in lines[0] and "why='No such file or directory: /no/such/file'" in lines[0]
    assert "bad passwd /no/such/file" in tell(proxy, "pdm list")[0].lines
    (rundir / "users").rename(rundir / "gone")
    [reply] = tell(proxy, "pdm unset users")
    assert reply.text == "pdm users unchanged" and reply.lines[0].startswith("warning: users: No such file")


@pytest.mark.may_bug
@pytest.mark.parametrize(("find", "blocking", "warnings"), [
    pytest.param("return None", False, (), id="knows nobody"),
    pytest.param("raise NotImplementedError", False, ("warning: it: NotImplementedError at ",), id="fails"),
    pytest.param("time.sleep(60)", False, ("warning: it: no answer within 0.2 s",), id="hangs"),
    pytest.param("os._exit(0)", False, ("warning: not checked: the process that was to find out ended",), id="dies"),
    pytest.param("time.sleep(60)", True, (), id="is not asked here"),
])
def test_modules_that_are_asked_as_the_children_would(start: Start, rundir: Path, modules: Path, find: str,
                                                      blocking: bool, warnings: tuple[str, ...]) -> None:
    (modules / "pdm_it.py").write_text(MODULE.format(find=find, blocking=blocking))
    proxy = start_proxy(start, rundir, store(NOWHERE), pdmdir=modules, pdmtimeout="200ms")
    [reply] = tell(proxy, "pdm add it it")
    assert reply.text == "pdm it added" and len(reply.lines) == len(warnings)
    assert all(line.startswith(wanted) for line, wanted in zip(reply.lines, warnings))
    wait_for(lambda: not asking(proxy), 5.0, "the end of the process")


def test_who_leaves_ends_the_check_and_others_do_not_wait_for_it(start: Start, rundir: Path, modules: Path) -> None:
    (modules / "pdm_it.py").write_text(MODULE.format(find="time.sleep(60)", blocking=False))
    proxy = start_proxy(start, rundir, store(NOWHERE), pdmdir=modules, pdmtimeout="60s")
    with control(proxy) as client:
        client._sock.sendall(b"pdm add it it\n")
        wait_for(lambda: asking(proxy), 5.0, "the check")
        [reply] = tell(proxy, "pdm reload it")
        assert (reply.text, reply.lines) == ("reloaded", ())
    wait_for(lambda: not asking(proxy), 5.0, "the end of the process")
    assert not proxy.log_lines("command_failed")
    assert any(line.startswith("it it") for line in tell(proxy, "pdm list")[0].lines)


def test_modules_of_plmtpd(start: Start, spool: Path) -> None:
    plmtpd = start("plmtpd", {"plmtpd": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    [reply] = tell(plmtpd, "pdm add bad passwd /no/such/file")
    assert reply.lines == ("warning: bad: No such file or directory: /no/such/file",)
