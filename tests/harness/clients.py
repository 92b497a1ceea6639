"""Real POP3 clients, each made to fetch a mailbox once and to tell what it stored.

Every client is told to leave the messages as they are (no Received, no rewriting).  What it stores
with LF is given back with CRLF, as the messages lie in the mailbox.
"""

import os
import poplib
import pwd
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from popular.addresses import Endpoint
from tests.harness.mail import crlf
from tests.harness.needs import lacking, need_program

PASSWORD = "sesame street"      # clients must keep the space


@dataclass(frozen=True, slots=True)
class Account:
    """Where a client fetches, and where it keeps what it stores and remembers."""

    endpoint: Endpoint
    user: str
    folder: Path
    tls: str = "off"        # off, starttls or implicit
    cafile: str = ""        # of the server's certificate, which is for `host`
    host: str = ""          # what the client calls it; empty: its address

    @property
    def name(self) -> str:
        """What the client calls the server."""
        return self.host or self.endpoint.host


class Client(Protocol):
    """One client program; raises AssertionError when it fails."""

    remembers: bool     # knows by their UIDL which messages it has fetched before

    def fetch(self, account: Account, *, keep: bool) -> list[bytes]:
        """Fetch what is new, and delete it there unless it is to be kept; returns what was stored."""
        ...


class Poplib:
    """Python's own."""

    remembers = False

    def fetch(self, account: Account, *, keep: bool) -> list[bytes]:
        """Fetch all messages in one session."""
        context = ssl.create_default_context(cafile=account.cafile) if account.tls != "off" else None
        if account.tls == "implicit":
            pop: poplib.POP3 = poplib.POP3_SSL(account.name, account.endpoint.port, timeout=30, context=context)
        else:
            pop = poplib.POP3(account.name, account.endpoint.port, timeout=30)
            if context is not None:
                pop.stls(context)
        pop.user(account.user)
        pop.pass_(PASSWORD)
        count, octets = pop.stat()
        messages = [b"".join(line + b"\r\n" for line in pop.retr(number)[1]) for number in range(1, count + 1)]
        assert sum(map(len, messages)) == octets
        for number in range(1, count + 1):
            keep or pop.dele(number)
        pop.quit()
        return messages


class Curl:
    """curl: one message an address; commands of one run share a session."""

    remembers = False

    def fetch(self, account: Account, *, keep: bool) -> list[bytes]:
        """List, fetch all in one session, and delete in another."""
        curl = [need_program("curl"), "-sS", "--max-time", "60", "-u", f"{account.user}:{PASSWORD}"]
        if account.tls != "off":
            curl += ["--ssl-reqd", "--cacert", account.cafile]
        scheme = "pop3s" if account.tls == "implicit" else "pop3"
        address = f"{scheme}://{account.name}:{account.endpoint.port}/"
        listing = _run([*curl, address], account)
        count = sum(line[:1].isdigit() for line in listing.splitlines())    # curl shows the last dot of an empty list
        if not count:
            return []
        _run([*curl, f"{address}[1-{count}]", "-o", str(account.folder / "#1.eml")], account)
        files = [account.folder / f"{number}.eml" for number in range(1, count + 1)]
        messages = [path.read_bytes() for path in files]
        if not keep:    # with -l and a number in the address no message is awaited behind the answer
            _run([*curl, "-l", "-X", "DELE", f"{address}[1-{count}]"], account)
        return messages


class Mpop:
    """mpop, storing in a Maildir."""

    remembers = True

    def fetch(self, account: Account, *, keep: bool) -> list[bytes]:
        """Fetch what is new."""
        tls = ["--tls=off"] if account.tls == "off" else [
            "--tls=on", f"--tls-starttls={'on' if account.tls == 'starttls' else 'off'}",
            f"--tls-trust-file={account.cafile}"]
        words = [need_program("mpop"), f"--host={account.name}", f"--port={account.endpoint.port}",
                 "--auth=user", f"--user={account.user}", f"--passwordeval=echo '{PASSWORD}'", *tls,
                 f"--delivery=maildir,{_maildir(account)}", f"--uidls-file={account.folder / 'uidls'}",
                 "--received-header=off", f"--keep={'on' if keep else 'off'}"]
        _run(words, account)
        return _take_maildir(account)


class Fetchmail:
    """fetchmail, handing each message to a delivery program."""

    remembers = True

    def __init__(self, options: str) -> None:
        """Take words for the server in its rc file; without `uidl` it believes LAST, where there is one."""
        self.options = options

    def fetch(self, account: Account, *, keep: bool) -> list[bytes]:
        """Fetch what is new; fetchmail ends with 1 when there is nothing."""
        program = need_program("fetchmail")
        stored = account.folder / "stored"
        stored.mkdir(exist_ok=True)
        agent = account.folder / "agent.sh"
        agent.write_text(f'cat >"{stored}/$$"\n')
        settings = account.folder / "fetchmailrc"
        settings.write_text(
            f'set idfile "{account.folder / "ids"}"\nset pidfile "{account.folder / "pid"}"\nset invisible\n'
            f'poll {account.name} service {account.endpoint.port} protocol pop3 {self.options} timeout 60 '
            f'no envelope bad-header accept\n'
            f'user "{account.user}" password "{PASSWORD}" {"keep" if keep else "nokeep"} '
            f'no rewrite pass8bits stripcr no mimedecode no dropstatus no dropdelivered '
            f"{self._tls(account)} "
            f'mda "/bin/sh {agent}"\n')
        settings.chmod(0o600)
        _run([program, "-f", str(settings), "--nosyslog", "--nodetach"], account, good=(0, 1))
        return _take(sorted(stored.iterdir()))

    @staticmethod
    def _tls(account: Account) -> str:
        if account.tls == "off":
            return "sslproto ''"
        return f"{'ssl ' * (account.tls == 'implicit')}sslproto 'TLS1.2+' sslcertck sslcertfile '{account.cafile}'"


class Getmail:
    """getmail6, storing in a Maildir.

    It forks for each message, and now and then a child ends before its parent is ready.  Version 6.18 then waits for
    ever (on a Condition, which the handler of SIGCHLD has notified before), and 6.19 crashes (that handler has no
    process id yet).  It then begins anew, as a user would.
    """

    remembers = True

    SECONDS = 25.0    # for what takes two
    TRIES = 6
    CRASHED = 4       # its exit code
    CRASH = "AttributeError: 'Namespace' object has no attribute 'childpid'"

    def fetch(self, account: Account, *, keep: bool) -> list[bytes]:
        """Fetch what is new."""
        program = need_program("getmail")
        (account.folder / "getmailrc").write_text(
            f"[retriever]\ntype = SimplePOP3{'SSL' * (account.tls == 'implicit')}Retriever\nserver = {account.name}\n"
            f"port = {account.endpoint.port}\nusername = {account.user}\npassword = {PASSWORD}\n"
            + (f"ca_certs = {account.cafile}\n" if account.tls == "implicit" else "") +
            f"[destination]\ntype = Maildir\npath = {_maildir(account)}/\n"
            f"[options]\nread_all = false\ndelete = {'false' if keep else 'true'}\n"
            "delivered_to = false\nreceived = false\n")
        before = set(account.folder.glob("oldmail-*"))
        for _ in range(self.TRIES):
            if self._fetches(program, account):
                return _take_maildir(account)
            _take_maildir(account)    # fetched in vain: the session ended without QUIT, and is not remembered
            for path in set(account.folder.glob("oldmail-*")) - before:
                path.unlink()
        raise AssertionError(f"getmail has failed {self.TRIES} times")

    def _fetches(self, program: str, account: Account) -> bool:
        """Run it once; return False if it has failed as it does by chance."""
        words = [program, f"--getmaildir={account.folder}", "--rcfile=getmailrc"]
        try:
            said = _run(words, account, good=(0, self.CRASHED), seconds=self.SECONDS)
        except subprocess.TimeoutExpired:
            return False
        assert self.CRASH in said or "Unhandled exception" not in said, said[-3000:]
        return self.CRASH not in said


class NetPop3:
    """Net::POP3, which comes with Perl."""

    remembers = False

    SCRIPT = r"""
        use strict; use Net::POP3;
        my ($host, $port, $user, $password, $keep, $folder) = @ARGV;
        my $pop = Net::POP3->new($host, Port => $port, Timeout => 60) or die "no connection: $@\n";
        defined $pop->login($user, $password) or die "no login: " . $pop->message;
        for my $number (sort { $a <=> $b } keys %{ $pop->list }) {
            my $lines = $pop->get($number) or die "no message $number: " . $pop->message;
            open my $file, '>:raw', sprintf '%s/%05d.eml', $folder, $number or die "$!\n";
            print $file @$lines;
            close $file or die "$!\n";
            $keep or $pop->delete($number) or die "no deletion: " . $pop->message;
        }
        $pop->quit or die "no goodbye: " . $pop->message;
    """

    def fetch(self, account: Account, *, keep: bool) -> list[bytes]:
        """Fetch all messages in one session."""
        perl = need_program("perl")
        if subprocess.run([perl, "-MNet::POP3", "-e", "1"], stderr=subprocess.DEVNULL, timeout=30).returncode:
            lacking("Net::POP3")
        _run([perl, "-e", self.SCRIPT, account.endpoint.host, str(account.endpoint.port), account.user, PASSWORD,
              "1" if keep else "", str(account.folder)], account)
        return _take(sorted(account.folder.glob("*.eml")))


CLIENTS: dict[str, Client] = {
    "poplib": Poplib(), "curl": Curl(), "mpop": Mpop(), "fetchmail": Fetchmail("uidl"), "getmail": Getmail(),
    "netpop3": NetPop3()}


def _run(words: list[str], account: Account, good: tuple[int, ...] = (0,), seconds: float = 90.0) -> str:
    """Run a client with a home of its own, never as root; returns what it printed."""
    result = subprocess.run(words, cwd=account.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=seconds, errors="replace",
                            **_ordinary_user(account.folder),
                            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(account.folder), "LC_ALL": "C"})
    assert result.returncode in good, f"{words[0]} ended with {result.returncode}:\n{result.stdout[-3000:]}"
    return result.stdout


def _ordinary_user(folder: Path) -> dict[str, Any]:
    """Return what lets root run a client as nobody, because clients refuse root or complain about it."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _maildir(account: Account) -> Path:
    folder = account.folder / "Maildir"
    for name in ("tmp", "new", "cur"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def _take_maildir(account: Account) -> list[bytes]:
    folder = account.folder / "Maildir"
    return _take(sorted([*(folder / "new").iterdir(), *(folder / "cur").iterdir()]))


def _take(files: list[Path]) -> list[bytes]:
    """Return the messages in `files` with CRLF and remove the files, so that the next run shows what it brought."""
    messages = [crlf(path.read_bytes()) for path in files]
    for path in files:
        path.unlink()
    return messages
