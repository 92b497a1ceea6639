"""System calls that are refused: a table, and the program in the kernel's language (classic BPF) that is made of it.

A refused call fails with EPERM, as if the process lacked the right.  It does not end the process: a database module
that tries one has an exception, and the log says why nobody could log in.  Raises nothing.  Made in the master.
"""

import errno
import struct
from dataclasses import dataclass, replace
from itertools import pairwise

# For no worker, nor for programs that its modules start: other processes, and the kernel itself.
WORKER = (
    "ptrace process_vm_readv process_vm_writev pidfd_getfd process_madvise kcmp bpf perf_event_open "
    "userfaultfd io_uring_setup io_uring_enter io_uring_register kexec_load kexec_file_load init_module "
    "finit_module delete_module mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen "
    "fsconfig fsmount fspick mount_setattr open_by_handle_at fanotify_init swapon swapoff reboot acct "
    "quotactl quotactl_fd settimeofday clock_settime syslog iopl ioperm modify_ldt").split()
# For no child: programs, processes, signals, limits; the kernel itself, where no capability is needed; ports; memory
# that no limit counts; other ways to write a file.
CHILD = (
    "execve execveat fork vfork ptrace process_vm_readv process_vm_writev kill tkill tgkill rt_sigqueueinfo "
    "rt_tgsigqueueinfo setpriority sched_setparam sched_setscheduler sched_setaffinity sched_setattr "
    "setrlimit unshare bpf perf_event_open userfaultfd keyctl add_key request_key modify_ldt listen "
    "memfd_create shmget io_setup truncate fallocate chown lchown fchown fchownat").split()
# For no child, unless it writes databases.
FILES = "ftruncate chmod fchmod fchmodat".split()
# For no relay process: files by name, and connections other than those that it is given.
SEALED = "open openat creat socket socketpair connect bind accept accept4".split()
# This fails with ENOSYS, and callers use an older call: its flags could write into the middle of the log.
FALLS_BACK = "pwritev2"

NUMBERS = {    # of x86_64, and of processors whose kernels have the general table; -1: none
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "kcmp": (312, 272), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "acct": (163, 89),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "syslog": (103, 116), "iopl": (172, -1), "ioperm": (173, -1), "modify_ldt": (154, -1), "execve": (59, 221),
    "execveat": (322, 281), "fork": (57, -1), "vfork": (58, -1), "kill": (62, 129), "tkill": (200, 130),
    "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274), "setrlimit": (160, 164), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "listen": (50, 201), "memfd_create": (319, 279), "shmget": (29, 194),
    "io_setup": (206, 0), "truncate": (76, 45), "fallocate": (285, 47), "chown": (92, -1), "lchown": (94, -1),
    "fchown": (93, 55), "fchownat": (260, 54), "ftruncate": (77, 46), "chmod": (90, -1), "fchmod": (91, 52),
    "fchmodat": (268, 53), "pwritev2": (328, 287), "clone": (56, 220), "prctl": (157, 167), "prlimit64": (302, 261),
    "fcntl": (72, 25), "ioctl": (16, 29), "mmap": (9, 222), "socket": (41, 198),
    "open": (2, -1), "openat": (257, 56), "creat": (85, -1), "socketpair": (53, 199), "connect": (42, 203),
    "bind": (49, 200), "accept": (43, 202), "accept4": (288, 242),
}
# Calls from the first number on are the same everywhere.  To children they do not exist (ENOSYS), and callers use older
# ones; among them are clone3 and io_uring, whose arguments a filter cannot read.  Those of Landlock do exist.
_RECENT, _LANDLOCK, _AFTER_LANDLOCK = 424, 444, 447

_MACHINES = {"x86_64": (0, 0xc000003e), "aarch64": (1, 0xc00000b7), "riscv64": (1, 0xc00000f3)}    # AUDIT_ARCH_*


@dataclass(frozen=True, slots=True)
class ArgumentRule:
    """A call that is refused to children depending on one argument."""

    call: str
    argument: int              # its number, from 0
    values: tuple[int, ...]    # lower halves
    how: str    # refused if it "is" one of them, is "not" one, "has" or "lacks" these bits, or "differs" as a pointer
    answer: str = "refuse"


ARGUMENT_RULES = (
    ArgumentRule("clone", 0, (0x10000,), "lacks"),       # CLONE_THREAD: threads are allowed, processes are not
    ArgumentRule("prctl", 0, (4,), "is"),                # PR_SET_DUMPABLE
    ArgumentRule("prlimit64", 2, (0,), "differs"),       # a new limit
    # F_SETFL takes O_APPEND off the log; F_SETOWN, F_SETSIG and F_SETOWN_EX send signals.
    ArgumentRule("fcntl", 1, (4, 8, 10, 15), "is"),
    # TIOCSTI types for others; FIOSETOWN and SIOCSPGRP send signals.
    ArgumentRule("ioctl", 1, (0x5412, 0x8901, 0x8902), "is"),
    ArgumentRule("mmap", 3, (0x21,), "has"),             # MAP_SHARED, MAP_ANONYMOUS: memory without a limit
    ArgumentRule("socket", 0, (1, 2, 10), "not", "unsupported"),    # AF_UNIX, AF_INET, AF_INET6
)
# For children that ask servers: libraries of databases make their sockets block, or not, by F_SETFL.
SERVER_RULES = tuple(replace(rule, values=(8, 10, 15)) if rule.call == "fcntl" else rule for rule in ARGUMENT_RULES)

_LOAD, _EQUAL, _AT_LEAST, _ABOVE, _BITS, _AND, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x54, 0x06
_ALLOW, _ERROR = 0x7fff0000, 0x00050000    # SECCOMP_RET_*
_ALIEN = 0x40000000    # numbers of another interface of x86_64 (x32)
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16    # in struct seccomp_data
_INSTRUCTION = struct.Struct("=HBBI")

_Jumps = tuple[str, str]


class _Assembler:
    """A program under construction: instructions and labels."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, _Jumps]] = []
        self._labels: dict[str, int] = {}

    def add(self, code: int, value: int, true: str = "", false: str = "") -> None:
        """Add an instruction; a jump goes to a label, or to the next instruction if that is empty."""
        self._steps.append((code, value, (true, false)))

    def label(self, name: str) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._steps)

    def octets(self) -> bytes:
        """Return it as the kernel reads it."""
        return b"".join(
            _INSTRUCTION.pack(code, *(self._labels[name] - place - 1 if name else 0 for name in jumps), value)
            for place, (code, value, jumps) in enumerate(self._steps))


def program(machine: str, refused: list[str], rules: tuple[ArgumentRule, ...] = ()) -> bytes | None:
    """Return the program that refuses the calls `refused`, for children also others by `rules`.

    None: not known for this `machine`.  It reads an argument first.  The kernel then does not work out beforehand, for
    each number, what the answer will be: that takes longer than all answers that a short session needs.
    """
    if machine not in _MACHINES:
        return None
    column, arch = _MACHINES[machine]
    made = _Assembler()
    made.add(_LOAD, _ARGUMENTS_AT)
    made.add(_LOAD, _ARCH_AT)
    made.add(_EQUAL, arch, "", "refuse")
    made.add(_LOAD, _NUMBER_AT)
    made.add(_AT_LEAST, _ALIEN, "refuse")
    if rules:
        made.add(_AT_LEAST, _AFTER_LANDLOCK, "unknown")
        made.add(_AT_LEAST, _LANDLOCK, "allow")
        made.add(_AT_LEAST, _RECENT, "unknown")
        made.add(_EQUAL, NUMBERS[FALLS_BACK][column], "unknown")
    for rule in rules:
        made.add(_EQUAL, NUMBERS[rule.call][column], rule.call)
    for first, last in _ranges(sorted({NUMBERS[call][column] for call in refused} - {-1})):
        if first == last:
            made.add(_EQUAL, first, "refuse")
        else:
            made.add(_AT_LEAST, first, "", f"after {last}")
            made.add(_ABOVE, last, "", "refuse")
            made.label(f"after {last}")
    made.add(_RETURN, _ALLOW)
    for rule in rules:
        _add_rule(made, rule)
    for name, answer in (("allow", _ALLOW), ("refuse", _ERROR | errno.EPERM), ("unknown", _ERROR | errno.ENOSYS),
                         ("unsupported", _ERROR | errno.EAFNOSUPPORT)):
        made.label(name)
        made.add(_RETURN, answer)
    return made.octets()


def _add_rule(made: _Assembler, rule: ArgumentRule) -> None:
    """Add what looks at one argument: the lower half of a number, or both halves of a pointer."""
    place = _ARGUMENTS_AT + 8 * rule.argument
    made.label(rule.call)
    made.add(_LOAD, place)
    *others, last = rule.values
    match rule.how:
        case "is":
            for value in others:
                made.add(_EQUAL, value, rule.answer)
            made.add(_EQUAL, last, rule.answer, "allow")
        case "not":
            for value in others:
                made.add(_EQUAL, value, "allow")
            made.add(_EQUAL, last, "allow", rule.answer)
        case "has":
            made.add(_AND, last)
            made.add(_EQUAL, last, rule.answer, "allow")
        case "lacks":
            made.add(_BITS, last, "allow", rule.answer)
        case "differs":
            made.add(_EQUAL, last, "", rule.answer)
            made.add(_LOAD, place + 4)
            made.add(_EQUAL, last, "allow", rule.answer)


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the first and last of each series of numbers that follow each other."""
    breaks = [0, *(place for place, (one, other) in enumerate(pairwise(numbers), 1) if other != one + 1), len(numbers)]
    return [(numbers[start], numbers[end - 1]) for start, end in pairwise(breaks)]
