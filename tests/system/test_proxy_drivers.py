"""What the master of pproxy carries for passwords: nothing until children met some that need a driver."""

import fcntl
import hashlib
import os
import re
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import argon2
import bcrypt
import pytest

from popular.addresses import Endpoint
from popular.pdm.libcrypt import crypt
from popular.proc.child import WISHES
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import store
from tests.harness.system import descriptors_of, wait_for

PASSWORD = "open sesame"
ARGON = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
HASHES = {
    "ann": "{ARGON2ID}" + ARGON.hash(PASSWORD),
    "bob": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
    "joe": f"{{PLAIN}}{PASSWORD}",
    "kim": "{SHA256.HEX}" + hashlib.sha256(PASSWORD.encode()).hexdigest(),
    "lee": crypt(PASSWORD.encode(), "$6$rounds=1000$saltsalt"),
}
LIBRARIES = ("libcrypt", "_bcrypt", "_ffi", "_cffi_backend", "libcrypto", "_hashlib")    # all that are meant
RECORD = struct.Struct("=iB")

pytestmark = pytest.mark.usefixtures("by_exec")


@pytest.fixture(params=[1, 1000], ids=["a child for each session", "children that stay"])
def proxy(start: Callable[..., Daemon], rundir: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A pproxy whose users see an empty mailbox."""
    users = rundir / "users"
    users.write_text("".join(f"{name}:{stored}:store:xpop:m\n" for name, stored in HASHES.items()))
    yield start("pproxy", {
        "pproxy": {"authdelay": 0, "maxuse": request.param, "minspare": 1, "maxspare": 1},
        "vserv": {"main": {"address": "127.0.0.1:0", "enabled": "off"}},
        "backend": store(Endpoint("127.0.0.1", 1)), "pdm": {"users": {"module": "passwd", "args": users}},
    })


def log_in(pop: Callable[..., PopClient], proxy: Daemon, *users: str) -> None:
    """Let each user log in and leave."""
    for user in users:
        client = pop(proxy.endpoint())
        assert client.login(user, PASSWORD).startswith(b"+OK"), user
        client.ok("QUIT")


def carried(pid: int) -> set[str]:
    """Return which of LIBRARIES a process has mapped, none when it is gone."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return set()
    return {name for name in LIBRARIES if re.search(rf"/{name}[^/\n]*\.so", maps)}


def test_the_master_learns_from_its_children(proxy: Daemon, pop: Callable[..., PopClient]) -> None:
    log_in(pop, proxy, "joe")
    assert carried(proxy.pid) == set()
    known: set[str] = set()
    for user, libraries in (("lee", {"libcrypt"}), ("bob", {"_bcrypt"}),
                            ("kim", {"libcrypto", "_hashlib"}), ("ann", {"_ffi", "_cffi_backend"})):
        known |= libraries
        log_in(pop, proxy, user)
        wait_for(lambda: carried(proxy.pid) == known, 10.0, f"what {user} needs")
    log_in(pop, proxy, *HASHES)
    proxy.signal(signal.SIGHUP)    # fresh children
    wait_for(lambda: [carried(pid) for pid in proxy.children()] == [known])
    log_in(pop, proxy, *HASHES)


def test_an_unknown_user_costs_what_a_hash_costs(proxy: Daemon, pop: Callable[..., PopClient]) -> None:
    client = pop(proxy.endpoint())
    assert client.login("nobody", PASSWORD).startswith(b"-ERR [AUTH]")
    client.ok("QUIT")
    wait_for(lambda: carried(proxy.pid) == {"libcrypt"})


def test_a_forged_number_means_nothing(proxy: Daemon, pop: Callable[..., PopClient]) -> None:
    child = wait_for(lambda: next(filter(waits, proxy.children()), 0))
    [bell] = [fd for fd, target in descriptors_of(child).items() if target in shared_pipes(proxy.pid, child)
              and is_writable(child, fd)]
    with open(f"/proc/{child}/fd/{bell}", "wb", buffering=0) as pipe:
        for number in (3, WISHES - 1, WISHES + 6, 255):    # no state, and no driver of ours
            pipe.write(RECORD.pack(child, number))
        for number in range(256):                          # no child of its
            pipe.write(RECORD.pack(os.getpid(), number))
        wait_for(lambda: fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) == bytes(4), 10.0, "the master to read")
    log_in(pop, proxy, "joe")
    assert carried(proxy.pid) == set()


def waits(pid: int) -> bool:
    """Tell whether a child has come to its waiting room."""
    return "anon_inode:[eventpoll]" in descriptors_of(pid).values()


def shared_pipes(master: int, child: int) -> set[str]:
    """Return the pipes that both processes hold."""
    masters, childs = (set(descriptors_of(pid).values()) for pid in (master, child))
    return {target for target in masters & childs if target.startswith("pipe:")}


def is_writable(pid: int, fd: int) -> bool:
    """Tell whether a process may write to a descriptor."""
    flags = re.search(r"flags:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{fd}").read_text())
    return flags is not None and bool(int(flags.group(1), 8) & os.O_ACCMODE)
