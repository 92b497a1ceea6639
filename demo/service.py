"""Starting the daemons of the demo, delivering its mail, and ending everything."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from demo.accounts import ACCOUNTS
from demo.databases import make_users, passwords_elsewhere
from demo.letters import LETTERS, letter
from demo.site import Site
from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.tools import run_octets


class MailSystem:
    """All daemons of the demo; leaving the `with` block ends them."""

    def __init__(self, site: Site, database: str) -> None:
        self.site = site
        self.database = database
        self._stack = ExitStack()
        self.elsewhere_is = ""
        self.dovecot: Dovecot | None = None

    def __enter__(self) -> "MailSystem":
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        """Start servers before proxies, because the proxies' files name their ports."""
        self.site.prepare()
        users = make_users(self.database, self.site.etc, self.site.database, self._stack)
        self.site.write_pcheckd()
        self.site.write_pserv()
        self.pcheckd = self._launch("pcheckd", "pcheckd")
        self.pserv = self._launch("pserv", "pserv")
        store = self.pserv.endpoint()
        elsewhere = self._start_elsewhere(store)
        self.site.write_pproxy(store, self.pcheckd.endpoint(), elsewhere, self.database, users)
        self.pproxy = self._launch("pproxy", "pproxy")

    def _start_elsewhere(self, store: Endpoint) -> Endpoint:
        """Start a foreign POP3 server: Dovecot, or a second proxy in its place."""
        try:
            self.dovecot = self._stack.enter_context(
                Dovecot.start(self.site.folder / "dovecot", passwords_elsewhere(self.database)))
        except NoDovecot as why:
            self.elsewhere_is = f"a second pproxy, because {why}"
            self.site.write_elsewhere(store)
            return self._launch("pproxy", "elsewhere").endpoint()
        self.elsewhere_is = "Dovecot"
        return self.dovecot.endpoint

    def _launch(self, program: str, name: str) -> Daemon:
        rundir = self.site.var if name == program else self.site.var / name
        return self._stack.enter_context(Daemon.launch(program, self.site.config(name), rundir, self.site.log(name)))

    def deliver_all(self) -> int:
        """Create every mailbox and deliver every letter; returns the number of letters."""
        for account in ACCOUNTS:
            for folder in ("tmp", "new", "cur"):
                if account.mailbox:
                    (self.site.spool / account.mailbox / folder).mkdir(parents=True, exist_ok=True)
        for number, (account, *_) in enumerate(LETTERS):
            if account.mailbox:
                self._deliver(self.site.spool, account.mailbox, letter(number))
            elif self.dovecot:
                home = self.dovecot.folder / "home" / account.buser
                self._deliver(home, "Maildir", letter(number), log=os.devnull)    # their owner may not write to ours
                self.dovecot.own(account.buser)
            else:
                self._deliver(self.site.spool, f"elsewhere/{account.buser}", letter(number))
        return len(LETTERS)

    def _deliver(self, spool: Path, mailbox: str, message: bytes, log: str = "") -> None:
        done = run_octets("pdeliver", "--create", "-m", spool, "-l", log or self.site.log("pdeliver"), mailbox,
                          stdin=message)
        sys.stderr.write(done.stderr.decode())
        done.check_returncode()
