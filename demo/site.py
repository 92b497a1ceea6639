"""The files of the demo below ./run: INI files, spool, run folder and logs."""

import getpass
import grp
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from demo.accounts import MASTER_PASSWORD, NET, ORG, crypted
from demo.databases import Rows, namespace_format
from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, ini_text

ANY_PORT = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything is; `prepare` recreates it at each run."""

    folder: Path

    @property
    def spool(self) -> Path:
        """Root of all mailboxes."""
        return self.folder / "spool"

    @property
    def etc(self) -> Path:
        """Configuration and user database."""
        return self.folder / "etc"

    @property
    def var(self) -> Path:
        """Pid files and sockets."""
        return self.folder / "var"

    @property
    def database(self) -> Path:
        """What a database server writes."""
        return self.folder / "database"

    @property
    def modules(self) -> Path:
        """Database modules."""
        return self.folder / "lib"

    def config(self, name: str) -> Path:
        """Return the INI file of a daemon."""
        return self.etc / f"{name}.conf"

    def log(self, name: str) -> Path:
        """Return the log file of a program."""
        return self.folder / "log" / name

    def count(self, mailbox: str) -> tuple[int, int]:
        """Return the numbers of new and of read messages in a mailbox."""
        return len(list((self.spool / mailbox / "new").iterdir())), len(list((self.spool / mailbox / "cur").iterdir()))

    def prepare(self) -> None:
        """Remove the files of an earlier run, and create folders."""
        for old in (self.spool, self.etc, self.var, self.modules, self.database, self.folder / "log",
                    self.folder / "dovecot"):
            shutil.rmtree(old, ignore_errors=True)
        for new in (self.spool, self.etc, self.var, self.database, self.folder / "log"):
            new.mkdir(parents=True)
        self._copy_modules()
        master = self.etc / "masterauth.conf"
        master.write_text(f"# IP:NAMESPACE:CRYPTED\n127.0.0.1:{ORG}:{crypted(MASTER_PASSWORD)}\n")
        master.chmod(0o600)

    def _copy_modules(self) -> None:
        """Copy the modules: the proxy refuses those with another owner or writable by a group, as in some checkouts."""
        shutil.copytree(ROOT / "pdm_modules", self.modules, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (self.modules, *self.modules.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def write_pcheckd(self) -> None:
        """Write pcheckd.conf."""
        self._write("pcheckd", {"pcheckd": {"mailboxdir": self.spool, "host": "127.0.0.1", "port": 0}})

    def write_pserv(self) -> None:
        """Write pserv.conf."""
        self._write("pserv", {"pserv": {"mailboxdir": self.spool}, "server": {"main": {"address": ANY_PORT}}})

    def write_elsewhere(self, store: Endpoint) -> None:
        """Write the configuration of a second proxy, which is an ordinary POP3 server for the first one."""
        self._write("elsewhere", {
            "pproxy": {"pdmdir": self.modules, "minspare": 1, "maxspare": 2},
            "vserv": {"main": {"address": ANY_PORT}},
            "backend": {"store": {"protocol": "xpop", "address": store}},
            "pdm": {"all": {"module": "any", "args": "store elsewhere/%u"}}})

    def write_pproxy(self, store: Endpoint, check: Endpoint, elsewhere: Endpoint, database: str, users: Rows) -> None:
        """Write pproxy.conf: two virtual servers, two backends, the modules of the users and that of support."""
        self._write("pproxy", {
            "pproxy": {"pdmdir": self.modules, "authdelay": "200ms", "sidprefix": "demo"},
            "vserv": {
                "org": {"address": ANY_PORT, "namespace": ORG, "banner": f'"POPular at {ORG}"',
                        **namespace_format(database, ORG)},
                "net": {"address": ANY_PORT, "namespace": NET, "banner": f'"POPular at {NET}"',
                        **namespace_format(database, NET)}},
            "backend": {
                "store": {"protocol": "cxpop", "address": store, "checkport": check.port},
                "elsewhere": {"protocol": "pop3", "address": elsewhere}},
            "pdm": {
                **users,
                "support": {"module": "master", "args": self.etc / "masterauth.conf"}}})

    def _write(self, name: str, settings: dict[str, dict[str, object]]) -> None:
        """Write one INI file that needs no further option; root's daemons stay root's."""
        program = next(iter(settings))
        rundir = self.var if name == program else self.var / name
        rundir.mkdir(exist_ok=True)
        owner = {} if os.geteuid() != 0 else {
            "user": getpass.getuser(), "group": grp.getgrgid(os.getegid()).gr_name}
        variables = {"rundir": rundir, "logfile": self.log(name), **owner, **settings[program]}
        self.config(name).write_text(ini_text({**settings, program: variables}))
