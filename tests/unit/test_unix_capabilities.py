"""unix.walls.capabilities: what a process that changes its user keeps, seen in a forked child."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.errors import StartError
from popular.unix.rights import drop, find_rights
from popular.unix.walls.capabilities import CAP_NET_BIND_SERVICE, keep_only, permitted, survive_change_of_user

ONLY_THIS = 1 << CAP_NET_BIND_SERVICE

needs_root = pytest.mark.skipif(os.geteuid() != 0 or not permitted() & ONLY_THIS, reason="only root has capabilities")


def in_child(work: Callable[[], str]) -> str:
    """Return what `work` returns in a forked child, or its exception."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = work()
        except BaseException as why:
            answer = repr(why)
        os.write(write_end, answer.encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, encoding="ascii") as told:
        answer = told.read()
    os.waitpid(pid, 0)
    return answer


def status() -> dict[str, str]:
    """Return what the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def become(user: str) -> None:
    """Become `user`, keeping one capability, in the order of the boot."""
    survive_change_of_user()
    drop(find_rights(user, None))
    keep_only([CAP_NET_BIND_SERVICE])


@needs_root
@pytest.mark.parametrize("user", ["nobody", "root"])
def test_one_capability_outlives_the_change_of_user(user: str) -> None:
    def work() -> str:
        become(user)
        found = status()
        return " ".join(found[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs", "Uid"))

    uid = pwd.getpwnam(user).pw_uid
    one, none = f"{ONLY_THIS:016x}", f"{0:016x}"
    assert in_child(work).split() == [one, one, none, none, "1", *[str(uid)] * 4]


@needs_root
@pytest.mark.parametrize("act", [
    pytest.param(lambda: os.setuid(0), id="root again"),
    pytest.param(lambda: os.setgroups([0]), id="a group more"),
    pytest.param(lambda: os.open("/etc/shadow", os.O_RDONLY), id="files of root"),
    pytest.param(lambda: os.kill(os.getppid(), 0), id="processes of root"),
])
def test_everything_else_is_given_up(act: Callable[[], object]) -> None:
    def work() -> str:
        become("nobody")
        act()
        return "done"

    assert in_child(work).startswith("PermissionError")


@needs_root
def test_what_is_not_there_is_not_gained() -> None:
    def work() -> str:
        drop(find_rights("nobody", None))
        keep_only([CAP_NET_BIND_SERVICE])
        return str(permitted())

    assert in_child(work) == "0"


def test_a_system_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def capset(self, *words: object) -> int:
            return -1

        capget = prctl = capset

    monkeypatch.setattr("popular.unix.walls.capabilities.libc", Refusing)
    for act in (survive_change_of_user, permitted):
        with pytest.raises(StartError):
            act()


def test_the_group_of_a_user_is_his_primary_one() -> None:
    entry = pwd.getpwuid(os.getuid())
    assert find_rights(entry.pw_name, None).gid == entry.pw_gid
