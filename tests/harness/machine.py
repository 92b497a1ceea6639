"""A machine of a test's own: folders, users, processes, network and host name apart from this one's (Linux, root).

    with Machine.boot("store", tmp_path / "store") as store, Machine.boot("proxy", tmp_path / "proxy") as proxy:
        connect(store, "10.0.0.5/24", proxy, "10.0.0.2/24")
        store.type("pserv")

It shares the kernel, /usr and /dev with this machine.  Everything else is its own: /etc is a copy without POPular,
/var, /run, /tmp, /opt and /root are empty.  What is typed goes to a shell, whose end is the end of every process there.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from tests.harness.daemon import ROOT
from tests.harness.needs import lacking, need_program
from tests.harness.system import children_of, die_with_parent, end_process

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $1 name, $2 folder, then folders of this machine that are to be seen at the same place.  It stays as process 1, for
# there are daemons that do not detach when that is who starts them, and ends with the shell at the terminal.
_BOOT = """
name=$1
cd "$2"
shift 2
for each in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$each" ]; then cp -a "/$each" .
    elif [ -d "/$each" ]; then mkdir "$each"; mount --rbind "/$each" "$each"; fi
done
install -d usr dev proc run opt root var/log var/lib var/cache var/mail var/spool
install -d -m 1777 tmp var/tmp
ln -s ../run var/run
for each in usr dev; do mount --rbind "/$each" "$each"; done
mount -t proc proc proc
cp -a /etc .
rm -rf etc/popular
for each; do mkdir -p ".$each"; mount --rbind "$each" ".$each"; done
hostname "$name"
ip link set lo up
setsid --wait env -i HOME=/root PATH="$PATH" LC_ALL=C.UTF-8 chroot . /bin/sh -es
"""


@dataclass(slots=True)
class Machine:
    """A machine that runs, with one terminal."""

    name: str
    root: Path
    process: "subprocess.Popen[bytes]"
    typed: int = 0

    @classmethod
    def boot(cls, name: str, root: Path, shared: Iterable[Path] = ()) -> "Machine":
        """Start a machine whose files lie below the new folder `root`; skips where that is not allowed.

        `shared`: folders of this machine that it sees, at the same place.
        """
        if os.geteuid() != 0:
            pytest.skip("only root can make machines")
        need_program("ip")
        root.mkdir()
        root.chmod(0o755)
        command = [need_program("unshare"), "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
                   "/bin/sh", "-euc", _BOOT, "boot", name, str(root), *map(str, shared)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env={"PATH": PATH}, preexec_fn=die_with_parent)
        machine = cls(name, root, process)
        try:
            machine.type("if getent passwd pop; then userdel pop; fi")
        except AssertionError as why:
            machine.close()
            if "Operation not permitted" in str(why):
                lacking("the right to make machines (namespaces)")
            raise
        return machine

    @classmethod
    def with_popular(cls, name: str, root: Path) -> "Machine":
        """Start a machine that has the programs of this checkout in /opt/popular/bin, and the user pop."""
        shared: list[Path] = []
        for folder in (ROOT, Path(sys.prefix), Path(sys.base_prefix)):
            if not any(folder.is_relative_to(known) for known in (Path("/usr"), *shared)):
                shared.append(folder)
        machine = cls.boot(name, root, shared)
        programs = root / "opt/popular/bin"
        programs.mkdir(parents=True)
        for program in (ROOT / "bin").iterdir():
            wrapper = programs / program.name
            wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "{program}" "$@"\n')
            wrapper.chmod(0o755)
        machine.type("useradd --system --user-group --no-create-home --home-dir /pop pop\n"
                     "install -d -o pop -g pop /pop /var/log/popular\ninstall -d /etc/popular\n"
                     'export PATH="/opt/popular/bin:$PATH"')
        return machine

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def type(self, text: str, seconds: float = 40.0) -> str:
        """Type lines and return what the terminal shows until they are done.

        Raises AssertionError when a command fails, after which the machine is gone, or takes too long.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        self.typed += 1
        mark = f"-- {self.name} has done {self.typed} --\n".encode()
        shown = b""
        deadline = time.monotonic() + seconds
        try:
            self.process.stdin.write(text.encode() + b"\necho '" + mark.rstrip() + b"'\n")
            self.process.stdin.flush()
        except BrokenPipeError:    # the shell has ended, and tells why
            pass
        while not shown.endswith(mark):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], \
                f"{self.name}: not done in {seconds} s: {text}\n{shown.decode(errors='replace')}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"{self.name}: failed: {text}\n{shown.decode(errors='replace')}"
            shown += data
        return shown.removesuffix(mark).decode(errors="replace")

    def wait(self, command: str, seconds: float = 40.0) -> str:
        """Type a command until it succeeds, as an impatient administrator; returns what it showed."""
        turns = int(seconds / 0.1)
        return self.type(f"n=0\nuntil {command}; do n=$((n + 1)); [ $n -lt {turns} ]; sleep 0.1; done", seconds + 5)

    @property
    def pid(self) -> int:
        """The process id, on this machine, of its first process."""
        return children_of(self.process.pid)[0]

    def close(self) -> None:
        """Switch it off: all its processes end."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            end_process(self.pid)
            self.process.wait()
        self.process.stdout.close()


def connect(one: Machine, address: str, other: Machine, other_address: str) -> None:
    """Join two machines by a cable between their eth0; the addresses are in the form 10.0.0.5/24."""
    subprocess.run([need_program("ip"), "link", "add", "name", "eth0", "netns", str(one.pid), "type", "veth",
                    "peer", "name", "eth0", "netns", str(other.pid)], check=True, timeout=60)
    for machine, where in ((one, address), (other, other_address)):
        machine.type(f"ip addr add {where} dev eth0\nip link set eth0 up")
