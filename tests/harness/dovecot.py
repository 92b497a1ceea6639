"""A Dovecot of our own as POP3 backend: its own configuration, folders and port, nothing of the system's.

Works as root (mail then belongs to `nobody`, because Dovecot opens no mail for uid 0) and as anyone
else (all of Dovecot then runs as that user).  Written for Dovecot 2.3 and 2.4, those of Debian 12 and 13;
dovecot_config.py has their configuration languages.
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
from typing import NamedTuple

from popular.addresses import Endpoint
from popular.net.tls.context import KeyPair
from tests.harness.dovecot_config import VERSIONS, configure, language_of
from tests.harness.ports import free_port
from tests.harness.system import die_with_parent, end_family, wait_for

MAX_FOLDER = 60     # octets: Dovecot makes sockets below it, and a socket's name has 107
LIBEXEC = ("/usr/lib", "/usr/libexec")      # where distributions install Dovecot's own folder

_CONFIG = """\
{config_version}
base_dir = {folder}/base
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = pop3
listen = 127.0.0.1
auth_mechanisms = plain
{maildir}
mail_fsync = never
first_valid_uid = 1
{uidl_from_file_name}
{identity}
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
{passdb}
{userdb}
"""
_AS_ONE_USER = """\
default_internal_user = {name}
default_internal_group = {group}
default_login_user = {name}
"""
_WITHOUT_TLS = """\
ssl = no
{allow_cleartext}
"""
_WITH_TLS = """\
ssl = required
{certificate_and_key}
"""


class NoDovecot(Exception):
    """There is no Dovecot here that can be used; says why."""


class Program(NamedTuple):
    """The installed Dovecot."""

    path: str
    language: str       # that of its configuration: one of dovecot_config.VERSIONS


@dataclass(frozen=True, slots=True)
class Dovecot:
    """A running Dovecot."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    endpoint: Endpoint

    @classmethod
    def start(cls, folder: Path, users: Mapping[str, str], pair: KeyPair | None = None, more: str = "") -> "Dovecot":
        """Start a Dovecot in `folder` for `users` (name: password, which may go on with the rest of a line).

        With `pair` it demands TLS; `more` are lines for its configuration.  Raises NoDovecot.
        """
        program = find_dovecot()
        prepare(folder)
        (folder / "users").write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
        (folder / "users").chmod(0o644)
        for user in users:
            for name in ("cur", "new", "tmp"):
                (folder / "home" / user / "Maildir" / name).mkdir(parents=True, exist_ok=True)
        _give(folder / "home", *_mail_owner())
        for _ in range(5):      # another process may take the free port before Dovecot binds it
            port = free_port()
            config = write_config(folder, program.language, port, pair, more)
            dovecot = cls(folder, _run(program.path, config), Endpoint("127.0.0.1", port))
            if dovecot._is_up():
                return dovecot
            dovecot.stop()
        raise NoDovecot(f"Dovecot does not start: {dovecot.complaints()[-500:]}")

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

    def complaints(self) -> str:
        """Return what it said before it had a log, and its log."""
        return (self.folder / "dovecot.err").read_text(errors="replace") + self.log()


def find_dovecot() -> Program:
    """Return the installed Dovecot; raises NoDovecot when it is missing or of a version not written for."""
    path = shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None or not any(Path(folder, "dovecot/pop3").exists() for folder in LIBEXEC):
        raise NoDovecot("Dovecot with its POP3 server is not installed")
    output = subprocess.run([path, "--version"], stdout=subprocess.PIPE, check=True, timeout=10).stdout
    version = output.decode(errors="replace").strip()
    language = language_of(version)
    if language is None:
        raise NoDovecot(f"Dovecot is {version}, neither {' nor '.join(VERSIONS)}")
    return Program(path, language)


def prepare(folder: Path) -> None:
    """Make a folder for Dovecot; raises NoDovecot when it cannot be one."""
    if len(str(folder)) > MAX_FOLDER:
        raise NoDovecot(f"the name of its folder is longer than {MAX_FOLDER} characters")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    _prove_reachable(folder, _mail_owner()[0])


def write_config(folder: Path, language: str, port: int, pair: KeyPair | None = None, more: str = "") -> Path:
    """Write a configuration in `language` with which Dovecot has its files in `folder`; returns its name.

    Its users are in the file `users`.  With `pair` it demands TLS; `more` are lines of it.
    """
    uid, gid = _mail_owner()
    words: dict[str, object] = {"folder": folder, "users": folder / "users", "homes": folder / "home", "uid": uid,
                                "gid": gid, "identity": _identity(), "port": port}
    if pair is not None:
        words.update(certificate=pair.certificate, key=pair.key)
    template = _CONFIG + more + (_WITHOUT_TLS if pair is None else _WITH_TLS)
    config = folder / "dovecot.conf"
    config.write_text(configure(template, language, **words))
    return config


def _run(program: str, config: Path) -> "subprocess.Popen[bytes]":
    with config.with_name("dovecot.err").open("ab") as stderr:
        return subprocess.Popen([program, "-F", "-c", str(config)], cwd="/", stderr=stderr,
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
