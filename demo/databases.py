"""The databases that `make run DB=NAME` can have its users in; those over servers are in `demo.servers`."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from demo.accounts import ACCOUNTS, CARLA, TABLE, Account, salted
from demo.pam import write_service
from demo.servers import SERVERS, module, private

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = "sqlite"
BY_NAME_ONLY = ("lmdb", "pam")        # databases that know no namespaces
WITHOUT_LOGINS = ("pam", "route")    # databases without passwords for other servers

Rows = Mapping[str, Mapping[str, object]]         # of the section [pdm]
Start = Callable[[Path, Path, ExitStack], str]    # makes the database, and returns the arguments of the module


def names() -> list[str]:
    """Return the names of all databases."""
    return [*_FILES, *SERVERS, "pam", "route"]


def make_users(name: str, etc: Path, folder: Path, stack: ExitStack) -> Rows:
    """Make a database with all accounts in the folder `etc`, a server's own files in `folder`.

    A server runs until `stack` is closed.  Raises Missing if anything is not installed.
    """
    if name == "route":
        by_name = {"module": "route", "args": f"users={CARLA.name} backends={CARLA.backend}"}
        return {"elsewhere": by_name, **make_users(DEFAULT, etc, folder, stack)}
    if name == "pam":
        return _pam(etc)
    start = _FILES.get(name) or SERVERS[name]
    return {"users": {"module": name, "args": start(etc, folder, stack)}}


def namespace_format(name: str, namespace: str) -> dict[str, object]:
    """Return what a virtual server needs for a database that knows users only by their names."""
    return {"userformat": f"domain={namespace}"} if name in BY_NAME_ONLY else {}


def passwords_elsewhere(name: str) -> dict[str, str]:
    """Return the password of the account at the other POP3 server: some have none, and pass on that of the client."""
    return {CARLA.buser: CARLA.password if name in WITHOUT_LOGINS else CARLA.bpass}


def _sqlite(etc: Path, _folder: Path, _stack: ExitStack) -> str:
    path = etc / "users.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE)
        database.executemany("INSERT INTO users VALUES (?, ?, ?, ?, '', ?, ?, ?)", [
            (account.name, account.namespace, salted(account.password), account.backend, account.mailbox,
             account.buser, account.bpass) for account in ACCOUNTS])
    return str(path)


def _lmdb(etc: Path, _folder: Path, _stack: ExitStack) -> str:
    module("lmdb", "lmdb", "", "lmdb")
    text, path = etc / "users.text", etc / "users.lmdb"
    private(text, "".join(
        f"{_full(account)}:{salted(account.password)}:{account.backend}::{account.mailbox}"
        + (f":{account.buser}:{account.bpass}\n" if account.buser else "\n") for account in ACCOUNTS))
    subprocess.run([sys.executable, str(ROOT / "bin/plmdb"), str(path), str(text)], check=True)
    return str(path)


def _dovecot(etc: Path, _folder: Path, _stack: ExitStack) -> str:
    path = etc / "users.dovecot"
    private(path, "".join(f"{_full(account)}:{salted(account.password)}:::" + (
        f":::proxy=y host={account.backend} destuser={account.buser} pass={account.bpass}\n" if account.buser
        else f":{account.mailbox}::\n") for account in ACCOUNTS))
    return f"file={path} key=%u@%n backend=store mailbox=%{{home}} backends={CARLA.backend}={CARLA.backend}"


def _exec(etc: Path, _folder: Path, _stack: ExitStack) -> str:
    path, program = etc / "users.json", etc / "users-from-json"
    shutil.copy(ROOT / "etc/examples/exec/users-from-json", program)    # its owner and mode matter
    program.chmod(0o755)
    private(path, "".join(json.dumps({
        "user": account.name, "namespace": account.namespace, "password": salted(account.password),
        "backend": account.backend, "mailbox": account.mailbox, "buser": account.buser, "bpass": account.bpass,
    }) + "\n" for account in ACCOUNTS))
    return f"program={program} arguments={path}"


def _pam(etc: Path) -> Rows:
    """Make two services, because one module of PAM has one backend."""
    folder = etc / "pam.d"
    folder.mkdir()
    rows = {"elsewhere": f"backend={CARLA.backend} protocol=pop3 buser=%l",
            "users": "backend=store protocol=cxpop mailbox=%d/%l"}
    for service, words in rows.items():
        write_service(folder, service, {_full(account): account.password for account in ACCOUNTS
                                        if (account is CARLA) is (service == "elsewhere")})
    return {service: {"module": "pam", "args": f"service={service} confdir={folder} {words}"}
            for service, words in rows.items()}


def _full(account: Account) -> str:
    return f"{account.name}@{account.namespace}"


_FILES: Mapping[str, Start] = {"sqlite": _sqlite, "lmdb": _lmdb, "dovecot": _dovecot, "exec": _exec}
