"""The examples in etc/examples work as they stand: real MTAs deliver, HAProxy and keepalived keep a proxy within reach.

Each runs on a machine of its own, with the paths, ports and users that the examples name.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.certificates import Authority
from tests.harness.daemon import ROOT
from tests.harness.machine import Machine, connect
from tests.harness.needs import lacking, need_program
from tests.harness.system import wait_for

EXAMPLES = ROOT / "etc/examples"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "popular-tests"
EXIM = Path(shutil.which("exim4") or CACHE / "exim/usr/sbin/exim4")    # scripts/prepare.sh unpacks it there
LETTER = "From: Ann <ann@example.net>\nTo: Joe <joe@example.org>\nSubject: Dinner\n\n.at eight\n\nFrom now on.\n"

PSERV = "[server]\n[[main]]\naddress = 127.0.0.1:1110\n"
PCHECKD = "[pcheckd]\nhost = 127.0.0.1\n"
PPROXY = """[pproxy]
authdelay = 10ms
[vserv]
[[main]]
address = {address}:110
{vserv}[backend]
[[store1]]
protocol = cxpop
address = 127.0.0.1:1110
[pdm]
[[users]]
module = passwd
args = /etc/popular/users
"""
LIST = "curl -sS --user joe:secret pop3://{address}/"
READ = LIST + "1"
USERS = "".join(f"{name}:{{PLAIN}}secret:store1:cxpop:{mailbox}\n" for name, mailbox in (
    ("joe", "3/2d/joe"), ("info", "3/2d/joe"), ("ann.lee", "a/07/ann.lee"), ("sue", "s/sue"), ("jörg", "j/joerg")))
STOP = "kill $(cat /run/popular/plmtpd.pid)\nwhile [ -e /run/popular/plmtpd.pid ]; do sleep 0.05; done"

pytestmark = [pytest.mark.limit(180),
              pytest.mark.skipif(os.geteuid() != 0, reason="only root can make machines")]

Boot = Callable[[str], Machine]


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """A function that starts a machine with POPular's programs."""
    need_program("curl")
    with ExitStack() as machines:
        yield lambda name: machines.enter_context(Machine.with_popular(name, tmp_path / name))


def store(machine: Machine) -> None:
    """Start what a storage host has."""
    folder = machine.root / "etc/popular"
    (folder / "pserv.conf").write_text(PSERV)
    (folder / "pcheckd.conf").write_text(PCHECKD)
    machine.type("pserv && pcheckd")


def proxy(machine: Machine, address: str = "127.0.0.1", protocol: str = "cxpop", vserv: str = "") -> None:
    """Start a proxy; Joe has the mailbox 3/2d/joe on the same machine, if there is a storage host on it.

    `vserv` are more lines of its virtual server.
    """
    folder = machine.root / "etc/popular"
    (folder / "pproxy.conf").write_text(PPROXY.format(address=address, vserv=vserv))
    (folder / "users").write_text(f"joe:{{PLAIN}}secret:store1:{protocol}:3/2d/joe\n")
    machine.type("pproxy")


def deliver(machine: Machine) -> None:
    """Bring the letter into Joe's mailbox by hand."""
    (machine.root / "tmp/letter").write_text(LETTER)
    machine.type("runuser -u pop -- /opt/popular/bin/pdeliver --create 3/2d/joe </tmp/letter")


def mails(machine: Machine, name: str = "3/2d/joe") -> list[bytes]:
    """Return the mails of a mailbox that nobody has read, in no order."""
    folder = machine.root / "pop" / name / "new"
    return [path.read_bytes() for path in folder.iterdir()] if folder.is_dir() else []


def is_logged(machine: Machine, log: str, *words: str) -> bool:
    """Tell whether a line of a log has all these words."""
    path = machine.root / log
    return path.exists() and any(all(word in line for word in words) for line in path.read_text().splitlines())


@dataclass(frozen=True, slots=True)
class Mta:
    """An MTA at work on a machine, with plmtpd, whose recipients are those of USERS."""

    machine: Machine
    log: str
    deferred: str     # tells in its log that a mail stays in the queue
    bounced: str      # that it went back
    submit: str       # the program that takes a mail from users of the machine
    retry: str        # brings the whole queue on its way
    queue: str        # shows it

    def send(self, letter: str, *recipients: str, sender: str = "ann@example.net", source: str = "127.0.0.1") -> str:
        """Bring it a letter by SMTP; returns what curl complains about."""
        (self.machine.root / "tmp/letter").write_text(letter)
        to = " ".join(f"--mail-rcpt {recipient}" for recipient in recipients)
        return self.machine.type(f"curl -sS --crlf --interface {source} smtp://127.0.0.1 --mail-from {sender} {to} "
                                 "--upload-file /tmp/letter || echo refused")

    def control(self, *commands: str) -> None:
        """Tell plmtpd something that new sessions see."""
        self.machine.type("pcontrol --program=plmtpd --quiet "
                          + " ".join(f"--command='{command}'" for command in (*commands, "sync")))

    def wait_logged(self, *words: str) -> None:
        """Wait for a line of its log with all these words."""
        wait_for(lambda: is_logged(self.machine, self.log, *words), 30.0, f"{words} in its log")

    def wait_mails(self, count: int, name: str = "3/2d/joe") -> list[bytes]:
        """Wait until so many mails lie in a mailbox, unread; return them."""
        wait_for(lambda: len(mails(self.machine, name)) == count, 30.0, f"{count} mails in {name}")
        return mails(self.machine, name)

    def empty(self) -> None:
        """Remove the mail of Joe."""
        self.machine.type("rm -f /pop/3/2d/joe/new/*")


def mail_host(machine: Machine, example: str) -> None:
    """Start what takes mail and serves it, with the plmtpd of an example, which also listens at a port."""
    store(machine)
    proxy(machine, vserv="namespace = example.org\nuserformat = lower strip=example.org detail=+\n")
    folder = machine.root / "etc/popular"
    (folder / "users").write_text(USERS)
    config = (EXAMPLES / example / "plmtpd.conf").read_text()
    assert "\n    address = unix:/run/popular/lmtp\n" in config and "\n    #address = 10.0.0.5:24\n" in config
    (folder / "plmtpd.conf").write_text(config.replace("popular/lmtp\n", "popular/lmtp, 127.0.0.1:24\n"))
    machine.type("plmtpd")


def receives_mail(mta: Mta) -> None:
    """Prove that an MTA delivers to one and to several, bounces, and keeps a mail while the mailbox is out of order."""
    assert mta.send(LETTER, "joe@example.org", "Ann.Lee+lists@example.org") == ""
    mta.wait_mails(1)
    mta.wait_mails(1, "a/07/ann.lee")
    shown = mta.machine.type(READ.format(address="127.0.0.1"))
    head, body = LETTER.replace("\n", "\r\n").split("\r\n\r\n", 1)
    assert head + "\r\n" in shown and shown.endswith("\r\n\r\n" + body)    # the MTA adds lines to the head
    assert "return-path: <ann@example.net>\r\n" in shown.lower()
    mta.machine.type(f"{mta.submit} -f joe@example.org stranger@example.org <tmp/letter")
    mta.wait_logged("stranger@example.org", mta.bounced)
    [bounce] = mta.wait_mails(1)    # the other has been read
    assert b"stranger@example.org" in bounce
    mta.machine.type("install -d -o root -m 700 /pop/s")    # as a disk that is out of order
    assert mta.send(LETTER, "sue@example.org") == ""
    mta.wait_logged("sue", mta.deferred)


def waits_for_plmtpd(mta: Mta) -> None:
    """Prove that mail waits in the queue for room, for the database and for plmtpd, and goes back if that says so."""
    mta.empty()
    assert mta.send(LETTER, "joe@example.org") == ""
    mta.wait_mails(1)
    mta.control("set maxnum 1")
    assert mta.send(LETTER, "info@example.org") == ""
    mta.wait_logged("info@example.org", mta.deferred)
    mta.control("set overquota refuse")
    mta.machine.type(mta.retry)
    mta.wait_logged("info@example.org", mta.bounced)
    users = mta.machine.root / "etc/popular/users"
    users.rename(users.with_suffix(".away"))
    mta.control("set maxnum 0", "set maxsize 20000", "reload")
    assert mta.send(LETTER, "joe+2@example.org") == ""
    mta.wait_logged("joe+2@example.org", mta.deferred)
    users.with_suffix(".away").rename(users)
    mta.control("reload")
    mta.machine.type(mta.retry)
    mta.wait_mails(2)
    assert mta.send(LETTER + "x" * 70 * 300 + "\n", "joe+3@example.org") == ""
    mta.wait_logged("joe+3@example.org", mta.bounced)
    mta.control("set maxsize 52428800")


def outlasts_changes_of_plmtpd(mta: Mta, count: int = 30) -> None:
    """Prove that a queue is delivered once while plmtpd is away, comes, is replaced and restarted."""
    mta.empty()
    mta.machine.type(STOP)
    mta.machine.type(f"smtp-source -m {count} -s 2 -l 2000 -f ann@example.net -t joe+4@example.org 127.0.0.1:25")
    mta.wait_logged("joe+4@example.org", mta.deferred)
    mta.machine.type(f"plmtpd\n{mta.retry}\npcontrol --program=plmtpd --quiet --command=upgrade\n{STOP}\nplmtpd")
    mta.machine.wait(f"{{ {mta.retry}; sleep 0.5; ! {mta.queue} | grep -q 'joe[+]4@'; }}")
    mta.wait_mails(count)


def takes_large_mail(mta: Mta) -> None:
    """Prove that 20 MB arrive as they were sent."""
    mta.empty()
    text = ("".join(map(chr, range(35, 107))) + "\n") * 280_000
    assert mta.send("Subject: large\n\n" + text, "joe@example.org") == ""
    [mail] = mta.wait_mails(1)
    assert mail.endswith(text.replace("\n", "\r\n").encode())


def started_for_each(mta: Mta) -> None:
    """Prove that an MTA delivers by pdeliver."""
    mta.empty()
    assert mta.send(LETTER, "joe@example.org", "info@example.org") == ""
    mta.wait_mails(2)
    assert mta.send(LETTER, "sue@example.org") == ""
    mta.wait_logged("sue@example.org", mta.deferred, "popular")


def test_postfix_delivers(boot: Boot) -> None:
    need_program("postfix")
    mx = boot("mx")
    mail_host(mx, "postfix")
    example = (EXAMPLES / "postfix/main.cf").read_text()
    folder = mx.root / "etc/postfix"
    (folder / "main.cf").write_text(
        "compatibility_level = 3.6\nmyhostname = mx.example.org\nmydestination = localhost\nalias_maps =\n"
        "inet_interfaces = loopback-only\nmynetworks = 127.0.0.1/32\nmaillog_file = /var/log/postfix.log\n" + example)
    master = Path("/usr/share/postfix/master.cf.dist").read_text() + (EXAMPLES / "postfix/master.cf").read_text()
    (folder / "master.cf").write_text(master)
    unlock = "postconf -F lmtp/unix/chroot=n"
    assert f":  {unlock}\n" in example
    assert "warning" not in mx.type(
        "install -d /var/spool/postfix\ninstall -d -o postfix -g postfix /var/lib/postfix\n"
        f"postconf -F '*/*/chroot=n' lmtp/unix/chroot=y\n{unlock}\npostfix check\npostconf -n")
    mx.type("postfix start")
    mta = Mta(mx, "var/log/postfix.log", "status=deferred", "status=bounced", "/usr/sbin/sendmail", "postqueue -f",
              "postqueue -p")
    receives_mail(mta)
    assert "refused" in mta.send(LETTER, "stranger@example.org", source="127.0.0.2")
    waits_for_plmtpd(mta)
    outlasts_changes_of_plmtpd(mta)
    mta.empty()
    letter = "Subject: Käse\n\nGrüße\n"
    assert mta.send(letter, "jörg@example.org", sender="käthe@example.net", source="127.0.0.2") == ""
    [mail] = mta.wait_mails(1, "j/joerg")
    assert mail.endswith(letter.replace("\n", "\r\n").encode())
    assert mail.startswith("Return-Path: <käthe@example.net>\r\n".encode())
    mx.type("postconf -e virtual_transport=lmtp:inet:127.0.0.1:24\npostfix reload")
    takes_large_mail(mta)
    assert "#virtual_transport = popular\n#popular_destination_recipient_limit = 1\n" in example
    mx.type("postconf -e virtual_transport=popular popular_destination_recipient_limit=1\npostfix reload")
    started_for_each(mta)
    mx.type("postfix stop")


def test_exim_delivers(boot: Boot) -> None:
    if not EXIM.exists():
        lacking("Exim")
    mx = boot("mx")
    shutil.copy(EXIM, mx.root / "tmp/exim4")
    folder = mx.root / "etc/exim4"
    folder.mkdir(exist_ok=True)
    (folder / "popular-mailboxes").write_text((EXAMPLES / "exim/popular-mailboxes").read_text() + "sue: s/sue\n")
    router = (EXAMPLES / "exim/popular-router").read_text()
    (folder / "router").write_text(router)
    (folder / "exim4.conf").write_text(
        "exim_path = /opt/exim/exim4\nprimary_hostname = mx.example.org\ndomainlist local_domains = example.org\n"
        "log_file_path = /var/log/exim4/%slog\nacl_smtp_rcpt = rcpt\n"
        "begin acl\nrcpt:\naccept domains = +local_domains\n verify = recipient/callout=30s,defer_ok\ndeny\n"
        "begin routers\n.include /etc/exim4/router\n"
        f"begin transports\n.include {EXAMPLES}/exim/popular-transport\n"
        "begin retry\n* * F,2h,15m\n")
    mx.type("getent passwd Debian-exim || useradd --system --user-group Debian-exim\n"
            "install -d -o Debian-exim -g Debian-exim /var/spool/exim4 /var/log/exim4\n"
            "mkdir /opt/exim\nmount -t tmpfs none /opt/exim\n"
            "install -m 4755 /tmp/exim4 /opt/exim/exim4\n/opt/exim/exim4 -bV")
    mail_host(mx, "exim")
    start = ("/opt/exim/exim4 -bd -oP /run/exim.pid\n"    # which returns before it listens
             "until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 25))' 2>/dev/null; do :; done")
    again = f"kill $(cat /run/exim.pid)\nwhile kill -0 $(cat /run/exim.pid) 2>/dev/null; do sleep 0.05; done\n{start}"
    mx.type(start)
    mta = Mta(mx, "var/log/exim4/mainlog", " == ", " ** ", "/opt/exim/exim4", "/opt/exim/exim4 -qff",
              "/opt/exim/exim4 -bp")
    receives_mail(mta)
    waits_for_plmtpd(mta)
    outlasts_changes_of_plmtpd(mta)
    (folder / "router").write_text(router.replace("popular_lmtp\n", "popular_lmtp_tcp\n"))
    mx.type(again)
    assert "refused" in mta.send(LETTER, "stranger@example.org")
    takes_large_mail(mta)
    (folder / "router").write_text(router.replace("popular_lmtp\n", "popular_pdeliver\n").replace("# local", "  local"))
    mx.type(again)
    assert "refused" in mta.send(LETTER, "stranger@example.org")
    started_for_each(mta)


def test_haproxy_balances_between_two_proxies(boot: Boot) -> None:
    need_program("haproxy")
    front = boot("front")
    front.type("\n".join(f"ip addr add 10.0.0.{number}/32 dev lo" for number in (1, 2, 3)))
    store(front)
    config = (EXAMPLES / "haproxy/haproxy.cfg").read_text()
    vserv = "".join(line.lstrip("# ") for line in config.splitlines(keepends=True) if line.startswith("#     "))
    proxy(front, "10.0.0.2", vserv=vserv)
    deliver(front)
    (front.root / "etc/popular/second.conf").write_text(PPROXY.format(address="10.0.0.3", vserv=vserv))
    front.type("pproxy -c /etc/popular/second.conf -r /run/second -l /var/log/popular/second")
    (front.root / "etc/haproxy.cfg").write_text(config)
    assert "WARNING" not in front.type("haproxy -c -f /etc/haproxy.cfg")
    front.type("haproxy -D -f /etc/haproxy.cfg")
    read = READ.format(address="10.0.0.1")
    for _ in range(4):
        assert "at eight" in front.wait(read)
    for log in ("pproxy", "second"):
        assert is_logged(front, f"var/log/popular/{log}", "INF 0242 login "), f"{log} had no session"
        assert is_logged(front, f"var/log/popular/{log}", " client_named ", "proxy='10.0.0.1:", " id='10.0.0.1-")
    front.type("kill $(cat /run/popular/pproxy.pid)\nwhile [ -e /run/popular/pproxy.pid ]; do sleep 0.05; done")
    for _ in range(4):
        assert "at eight" in front.type(read), "a proxy that went is noticed by a client"


def test_keepalived_moves_the_address(boot: Boot) -> None:
    need_program("keepalived")
    one, two = boot("one"), boot("two")
    connect(one, "10.0.0.2/24", two, "10.0.0.3/24")
    config = (EXAMPLES / "keepalived/keepalived.conf").read_text()
    for machine, priority in ((one, 150), (two, 100)):
        proxy(machine, "0.0.0.0", "xpop")    # without a storage host every mailbox is empty
        folder = machine.root / "etc/keepalived"
        folder.mkdir(exist_ok=True)
        (folder / "keepalived.conf").write_text(config.replace("priority 150", f"priority {priority}"))
        shutil.copy(EXAMPLES / "keepalived/check-pproxy", folder)
        machine.type("/etc/keepalived/check-pproxy 127.0.0.1 110")
        # keepalived 2.2.7 ends itself by TERM when it tests a file that names another script_user than root
        machine.type("sed 's/script_user nobody/script_user root/' /etc/keepalived/keepalived.conf >/tmp/as-root")
        assert machine.type("keepalived --config-test --use-file /tmp/as-root") == ""
        machine.type("keepalived")
    has_it = "ip -4 addr show dev eth0 | grep -q 10.0.0.1/"
    one.wait(has_it, 30.0)
    assert two.type(LIST.format(address="10.0.0.1")).strip() == ""
    one.type("kill $(cat /run/popular/pproxy.pid)")
    one.wait("! /etc/keepalived/check-pproxy 127.0.0.1 110 2>/dev/null")
    two.wait(has_it, 30.0)
    assert one.wait(LIST.format(address="10.0.0.1")).strip() == ""
    for machine in (one, two):
        assert is_logged(machine, "var/log/popular/pproxy", "INF 0242 login "), f"{machine.name} had no session"


def test_certbot_renews_a_key_that_others_cannot_read(boot: Boot, authority: Authority) -> None:
    """The steps are those in the hook's own comment."""
    need_program("adduser")
    front = boot("front")
    hook, lineage = "/etc/letsencrypt/renewal-hooks/deploy/popular", "/etc/letsencrypt/live/mail.example.org"

    def renew(days: int) -> None:
        pair = authority.sign("mail.example.org", days=days)
        front.type(f"install -d -m 700 {lineage}")
        shutil.copy(pair.certificate, front.root / lineage[1:] / "fullchain.pem")
        shutil.copy(pair.key, front.root / lineage[1:] / "privkey.pem")
        front.type(f"chmod 600 {lineage}/privkey.pem\nRENEWED_LINEAGE={lineage} {hook}")

    front.type("getent group ssl-cert || groupadd --system ssl-cert\nadduser pop ssl-cert\n"
               f"install -D -m 755 {EXAMPLES}/certbot/popular {hook}\n"
               "mkdir -p /usr/local/bin\nln -sf /opt/popular/bin/pcontrol /usr/local/bin/pcontrol")
    renew(20)
    assert front.type("stat -c '%U %G %a' /etc/popular/mail.example.org.pem") == "root ssl-cert 640\n"
    assert "Permission denied" in front.type("! runuser -u nobody -- cat /etc/popular/mail.example.org.pem")
    tls = "tls = implicit\ncertificate = /etc/popular/mail.example.org.pem\n"
    (front.root / "etc/popular/pproxy.conf").write_text(
        PPROXY.format(address="127.0.0.1", vserv="").replace(":110\n", f":995\n{tls}"))
    (front.root / "etc/popular/users").write_text("joe:{PLAIN}secret:store1:xpop:3/2d/joe\n")
    front.type("pproxy")
    shown = "pcontrol --command 'show certificates'"
    assert " days=19 " in front.type(shown) or " days=20 " in front.type(shown)
    renew(40)
    assert " days=39 " in front.type(shown) or " days=40 " in front.type(shown)
    front.type(f"RENEWED_LINEAGE={lineage}.net {hook}")    # of another name
    shutil.copy(authority.cafile, front.root / "tmp/ca.pem")
    assert front.type("curl -sS --cacert /tmp/ca.pem --resolve mail.example.org:995:127.0.0.1 --user joe:secret "
                      "pop3s://mail.example.org/").strip() == ""
