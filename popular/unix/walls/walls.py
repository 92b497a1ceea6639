"""What processes of a daemon can no longer do, whatever code runs in them (docs/security.md).

The master raises what all processes inherit: no new privileges, and no access to a process by others of its user.
Children, helpers and workers enter the rest right after the fork: limits, no capability, a Landlock domain and a
seccomp filter, which the master has prepared.  The master enters none, because it starts processes and signals them.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from popular.unix.descriptors import MastersOwn
from popular.unix.syscalls import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, failure, libc, prctl
from popular.unix.walls import landlock, seccomp
from popular.unix.walls.capabilities import bounding, giving_up_all, permitted
from popular.unix.walls.landlock import NOTHING_ELSE, READING, WRITING, Access, Grant

ON = "on"

_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277}    # the number of seccomp(2)
_RLIMIT_NPROC, _RLIMIT_NOFILE = 6, 7    # on these machines; the module resource would be one more in every fork
_MORE_DESCRIPTORS = 1024    # that a child may open: as many as a process usually may have
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4    # the latter: without slower execution, which old kernels add for a filter


@dataclass(frozen=True, slots=True)
class Policy:
    """What processes of one kind may do with files; only workers may start programs."""

    writable: tuple[str, ...] = ()    # folders in which files may be made, changed and removed
    readable: tuple[str, ...] | None = None    # folders whose files may be read; None: all
    keeps_databases: bool = False     # SQLite and LMDB cut files to size, and give them a mode
    asks_servers: bool = False        # of databases, with libraries that set flags of their sockets
    is_sealed: bool = False           # opens no file, makes no connection and accepts none
    is_worker: bool = False           # asks databases by any driver, and may start programs
    is_filtered: bool = True          # by seccomp
    processes: int = 0                # and threads, of its user, with which it can start no more; 0: none
    encloses: bool | None = None      # each process serves one mailbox, and then reaches no other; None: it has none


@dataclass(frozen=True, slots=True)
class Kernel:
    """What this kernel has: `on`, or what is missing."""

    abi: int = 0
    landlock: str = "off"
    seccomp: str = "off"
    capabilities: str = "off"    # children hold none
    bounding: str = "off"        # programs can get none from their files
    processes: str = "off"       # are limited
    descriptors: str = "off"


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


class Walls:
    """The walls of one kind of process: prepared in the master, entered in the new process."""

    def __init__(self, own: MastersOwn | None = None, found: Kernel = Kernel()) -> None:
        """Begin without walls; `own` gets the descriptors of what is prepared."""
        self.found = found
        self._own = own
        self._ruleset = -1
        self._enter: tuple[Callable[[], int], ...] = ()
        self._limit: tuple[Callable[[], int], ...] = ()
        self._libraries: tuple[Grant, ...] = ()
        self.policy = Policy()

    def like(self) -> "Walls":
        """Return others, for another kind of process."""
        return Walls(self._own, self.found)

    def prepare(self, policy: Policy) -> None:
        """Have processes that begin from now on enter by `policy`; raises OSError, and then nothing changes."""
        if self._own is None:
            return
        limit = () if policy.is_worker or self.found.descriptors != ON else (
            _limit(_RLIMIT_NOFILE, _free_descriptor() + _MORE_DESCRIPTORS),)
        enter: list[Callable[[], int]] = []
        if self.found.processes == ON:
            enter.append(_limit(_RLIMIT_NPROC, policy.processes))
        if self.found.capabilities == ON and permitted():
            enter.append(giving_up_all())
        former, ruleset = self._ruleset, -1
        if self.found.landlock == ON:
            ruleset = _ruleset(policy, self.found.abi)
            enter.append(_bound("syscall", ctypes.c_long(landlock.RESTRICT), ctypes.c_int(ruleset), ctypes.c_int(0)))
            self._own.add(ruleset)
        if self.found.seccomp == ON and policy.is_filtered:
            enter.append(_filter(policy))
        self._ruleset, self._limit, self._enter = ruleset, limit, tuple(enter)
        self.policy = policy
        self._libraries = tuple(Grant(path, READING) for path in libraries()) if policy.encloses else ()
        if former >= 0:
            self._own.remove(former)
            os.close(former)

    def limit_descriptors(self) -> None:
        """Limit how many files this process may open: no worker, as drivers may need more; raises OSError."""
        for step in self._limit:
            if step() != 0:
                raise failure()

    def enter(self) -> None:
        """Restrict this process for good; raises OSError.  The master's descriptors must still be open."""
        for step in self._enter:
            if step() != 0:
                raise failure()

    def enclose(self, folders: Callable[[], Iterable[str]]) -> None:
        """Leave this process only the mailbox in `folders`, and what Python may still load; raises OSError.

        Links to folders are followed now.  Does nothing, and asks for no folders, if the policy does not say so, or the
        kernel has no Landlock.
        """
        if self._ruleset < 0 or not self.policy.encloses:
            return
        ruleset = landlock.make_ruleset(self.found.abi, NOTHING_ELSE | READING, [
            *[Grant(path, WRITING | READING) for path in folders()], *self._libraries])
        landlock.enter(ruleset)
        os.close(ruleset)

    @property
    def is_raised(self) -> bool:
        """Tell whether there are any walls."""
        return self._own is not None

    @property
    def is_prepared(self) -> bool:
        """Tell whether `prepare` has succeeded once."""
        return bool(self._enter)


def raise_walls(own: MastersOwn) -> Walls:
    """Raise what all processes inherit, and find out what they can enter; raises OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    version = landlock.abi()
    trouble = f"missing: the kernel has {f'ABI {version}' if version else 'none'}, and ABI 2 is needed"
    if version >= landlock.LEAST_ABI:
        trouble = _tried(lambda: landlock.enter(landlock.make_ruleset(version, Access.EXECUTE, ())))
    unknown = "missing: not known for this processor"
    known = seccomp.program(os.uname().machine, seccomp.WORKER) is not None
    refused = _tried(lambda: _call(_filter(Policy()))) if known else unknown
    limits = ON if _is_known() else unknown
    if os.geteuid() == 0:
        return Walls(own, Kernel(version, trouble, refused, *("off, since the user is root",) * 3, limits))
    holds = _tried(lambda: _call(giving_up_all())) if permitted() else ON
    left = bounding()
    return Walls(own, Kernel(version, trouble, refused, holds, f"off, {left} left" if left else ON, limits, limits))


def libraries() -> tuple[str, ...]:
    """Return the folders that hold Python's modules and the libraries that they need."""
    names = {sys.prefix, sys.base_prefix, *sys.path, "/usr", "/lib", "/lib64"}
    paths = {os.path.realpath(name) for name in names if os.path.isabs(name) and os.path.isdir(name)} - {"/"}
    return tuple(sorted(path for path in paths if not any(path.startswith(f"{other}/") for other in paths)))


def _ruleset(policy: Policy, version: int) -> int:
    if policy.is_worker:
        return landlock.make_ruleset(version, Access.EXECUTE, [Grant("/", Access.EXECUTE)], signals=True)
    grants = [Grant("/dev/null", Access.WRITE_FILE), *(Grant(path, WRITING) for path in policy.writable)]
    handled = NOTHING_ELSE
    if policy.readable is not None:
        handled |= Access.READ_FILE
        grants += [Grant(path, Access.READ_FILE) for path in policy.readable]
    return landlock.make_ruleset(version, handled, grants, ports=True, signals=True, abstract=True)


def _is_known() -> bool:
    """Tell whether the numbers here are those of this processor."""
    return os.uname().machine in _SECCOMP


def _limit(kind: int, value: int) -> Callable[[], int]:
    """Return a function that sets a limit, which cannot be raised again; one that is lower already stays."""
    limits = (ctypes.c_ulong * 2)()
    if libc().getrlimit(kind, limits) != 0:
        raise failure()
    return _bound("setrlimit", ctypes.c_int(kind), (ctypes.c_ulong * 2)(*(min(value, limits[1]),) * 2))


def _free_descriptor() -> int:
    """Return the lowest number that is free."""
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    return fd


def _filter(policy: Policy) -> Callable[[], int]:
    """Return a function that enters the filter."""
    machine = os.uname().machine
    refused = seccomp.WORKER if policy.is_worker else [
        *seccomp.CHILD, *(() if policy.keeps_databases else seccomp.FILES),
        *(seccomp.SEALED if policy.is_sealed else ())]
    rules = () if policy.is_worker else seccomp.SERVER_RULES if policy.asks_servers else seccomp.ARGUMENT_RULES
    rules = tuple(rule for rule in rules if rule.call not in refused)
    octets = seccomp.program(machine, refused, rules) or b""
    instructions = _Program(len(octets) // 8, octets)
    return _bound("syscall", ctypes.c_long(_SECCOMP[machine]), ctypes.c_uint(_SET_MODE_FILTER),
                  ctypes.c_uint(_SPEC_ALLOW), ctypes.byref(instructions))


def _bound(name: str, *arguments: object) -> Callable[[], int]:
    """Return a call of the C library with its arguments made."""
    function = getattr(libc(), name)

    def call() -> int:
        return int(function(*arguments))
    return call


def _call(step: Callable[[], int]) -> None:
    if step() != 0:
        raise failure()


def _tried(enter: Callable[[], None]) -> str:
    """Return `on`, or why a process cannot enter: one tries it."""
    pid = os.fork()
    if pid == 0:
        number = 255
        try:
            enter()
            number = 0
        except OSError as why:
            number = min(why.errno or 255, 255)
        finally:
            os._exit(number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return ON if code == 0 else f"missing: {os.strerror(code) if 0 < code < 255 else f'ended by {code}'}"
