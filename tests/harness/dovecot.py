"""A Dovecot of our own as POP3 backend: its own configuration, folders and port, nothing of the system's.

Works as root (mail then belongs to `nobody`, because Dovecot opens no mail for uid 0) and as anyone
else (all of Dovecot then runs as that user).  Written for Dovecot 2.3, the one in Debian 12.
"""

import contextlib
import grp
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from popular.addresses import Endpoint
from popular.net.tlscontext import KeyPair
from tests.harness.system import die_with_parent, end_family, wait_for

MAX_FOLDER = 60     # octets: Dovecot makes sockets below it, and a socket's name has 107

_CONFIG = """\
base_dir = {folder}/base
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = pop3
listen = 127.0.0.1
{tls}
disable_plaintext_auth = no
auth_mechanisms = plain
mail_location = maildir:~/Maildir
mail_fsync = never
first_valid_uid = 1
pop3_uidl_format = %g
{users}
service anvil {{
  chroot =
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=plain {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home/%u
}}
"""
_AS_ONE_USER = """\
default_internal_user = {name}
default_internal_group = {group}
default_login_user = {name}
"""


class NoDovecot(Exception):
    """There is no Dovecot here that can be used; says why."""


@dataclass(frozen=True, slots=True)
class Dovecot:
    """A running Dovecot."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    endpoint: Endpoint

    @classmethod
    def start(cls, folder: Path, users: Mapping[str, str], pair: KeyPair | None = None) -> "Dovecot":
        """Start a Dovecot in `folder` for `users` (name: password); with `pair` it demands TLS; raises NoDovecot."""
        program = find_dovecot()
        if len(str(folder)) > MAX_FOLDER:
            raise NoDovecot(f"the name of its folder is longer than {MAX_FOLDER} characters")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        uid, gid = _mail_owner()
        _prove_reachable(folder, uid)
        (folder / "users").write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
        (folder / "users").chmod(0o644)
        for user in users:
            for name in ("cur", "new", "tmp"):
                (folder / "home" / user / "Maildir" / name).mkdir(parents=True, exist_ok=True)
        _give(folder / "home", uid, gid)
        tls = f"ssl = required\nssl_cert = <{pair.certificate}\nssl_key = <{pair.key}" if pair else "ssl = no"
        for _ in range(5):      # another process may take the free port before Dovecot binds it
            port = _free_port()
            (folder / "dovecot.conf").write_text(_CONFIG.format(
                folder=folder, port=port, uid=uid, gid=gid, users=_identity(), tls=tls))
            dovecot = cls(folder, _run(program, folder), Endpoint("127.0.0.1", port))
            if dovecot._is_up():
                return dovecot
            dovecot.stop()
        raise NoDovecot(f"it does not start: {dovecot.log()[-500:]}")

    def _is_up(self) -> bool:
        def answers() -> bool:
            if self.process.poll() is not None:
                return True
            with contextlib.suppress(OSError), socket.create_connection(
                    (self.endpoint.host, self.endpoint.port), 5.0) as sock:
                return sock.recv(4).startswith(b"+OK")
            return False

        wait_for(answers, 20.0, "a greeting of Dovecot")
        return self.process.poll() is None

    def __enter__(self) -> "Dovecot":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and everything it started, sessions too; twice is fine."""
        end_family(self.process)

    def maildir(self, user: str) -> Path:
        """Return the Maildir of a user."""
        return self.folder / "home" / user / "Maildir"

    def own(self, user: str) -> None:
        """Give what lies in a Maildir to the user that Dovecot reads mail as."""
        _give(self.maildir(user), *_mail_owner())

    def log(self) -> str:
        """Return its log so far."""
        path = self.folder / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""


def find_dovecot() -> str:
    """Return Dovecot's path; raises NoDovecot when it is missing or of a version not written for."""
    program = shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None or not any(Path(folder, "dovecot/pop3").exists() for folder in ("/usr/lib", "/usr/libexec")):
        raise NoDovecot("Dovecot with its POP3 server is not installed")
    version = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=True, timeout=10).stdout
    if not version.startswith(b"2.3."):
        raise NoDovecot(f"Dovecot is {version.decode(errors='replace').strip()}, not 2.3")
    return program


def _run(program: str, folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "dovecot.err").open("ab") as stderr:
        return subprocess.Popen([program, "-F", "-c", str(folder / "dovecot.conf")], cwd="/", stderr=stderr,
                                stdout=stderr, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)


def _mail_owner() -> tuple[int, int]:
    """Return uid and gid of the mail: root's Dovecot takes nobody's."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _identity() -> str:
    """Return the settings that let all of Dovecot run as one ordinary user; none for root."""
    if os.geteuid() == 0:
        return ""
    return _AS_ONE_USER.format(name=pwd.getpwuid(os.geteuid()).pw_name, group=grp.getgrgid(os.getegid()).gr_name)


def _prove_reachable(folder: Path, uid: int) -> None:
    """Raise NoDovecot when the mail's owner cannot come as far as `folder`."""
    if os.geteuid() == 0 and any(not parent.stat().st_mode & 0o001 for parent in folder.parents):
        raise NoDovecot(f"uid {uid} cannot reach {folder}")


def _give(folder: Path, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, uid, gid)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
