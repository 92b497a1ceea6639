"""A Postfix of our own that takes mail by SMTP: its own configuration, queue and ports, nothing of the system's.

It needs root, as Postfix does.  It has no queue manager and delivers nothing: it only says what it would
take.  Its smtpd is chrooted, as Debian's is.
"""

import os
import pwd
import smtplib
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from popular.addresses import Endpoint
from tests.harness.needs import need_program
from tests.harness.ports import free_endpoint
from tests.harness.system import die_with_parent, end_family, wait_for

MASTER = "/usr/lib/postfix/sbin/master"

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = mx.example.org
mydestination = example.org
mynetworks = 192.0.2.1/32
local_recipient_maps =
inet_interfaces = loopback-only
inet_protocols = all
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
in_flow_delay = 0
{more}
"""
_SERVICES = """\
postlog   unix-dgram n - n - 1 postlogd
rewrite   unix - - n - - trivial-rewrite
proxymap  unix - - n - - proxymap
anvil     unix - - n - 1 anvil
cleanup   unix n - n - 0 cleanup
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running Postfix."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    endpoints: Sequence[Endpoint]

    @classmethod
    def start(cls, folder: Path, more: str, hosts: Sequence[str] = ("127.0.0.1",)) -> "Postfix":
        """Start one in `folder`, which everybody must be able to reach, with `more` lines of main.cf."""
        postfix = need_program("postfix")
        uid = pwd.getpwnam("postfix").pw_uid
        for name in ("queue", "data", "etc"):
            (folder / name).mkdir(parents=True)
        os.chown(folder / "data", uid, -1)
        endpoints = [free_endpoint(host) for host in hosts]
        config = folder / "etc"
        (config / "main.cf").write_text(_MAIN.format(folder=folder, more=more))
        (config / "master.cf").write_text(_SERVICES + "".join(f"{each}  inet n - y - - smtpd\n" for each in endpoints))
        subprocess.run([postfix, "-c", str(config), "check"], check=True, timeout=20, stdin=subprocess.DEVNULL)
        process = subprocess.Popen([MASTER, "-d", "-c", str(config)], cwd="/", stdin=subprocess.DEVNULL,
                                   start_new_session=True, preexec_fn=die_with_parent)    # its TERM goes to its group
        started = cls(folder, process, endpoints)
        try:
            wait_for(started._answers, 20.0, "a greeting of Postfix")
        except BaseException:
            started.stop()
            raise
        return started

    def rcpt(self, to: str, source: str, server: int = 0) -> int:
        """Return the code with which the server number `server` answers a client at `source` who names a recipient."""
        endpoint = self.endpoints[server]
        with smtplib.SMTP(endpoint.host, endpoint.port, "client.example.net", 20.0, source_address=(source, 0)) as smtp:
            smtp.ehlo()
            assert smtp.mail("joe@example.org")[0] == 250
            return smtp.rcpt(to)[0]

    def log(self) -> str:
        """Return its log so far."""
        path = self.folder / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """End it and everything it started."""
        end_family(self.process)

    def __enter__(self) -> "Postfix":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            with socket.create_connection((self.endpoints[0].host, self.endpoints[0].port), 5.0) as sock:
                return sock.recv(4).startswith(b"220")
        except OSError:
            return False
