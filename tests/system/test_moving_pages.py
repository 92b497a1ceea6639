"""The pages in docs/moving: what stands there is typed, on a machine on which the old server runs, if there is one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness.courier import courier_folder
from tests.harness.daemon import ROOT
from tests.harness.dovecot import NoDovecot, find_dovecot
from tests.harness.dovecot_config import VERSIONS, configure
from tests.harness.house import typed
from tests.harness.manpages import Command, Example, commands_of
from tests.harness.markdown import code_blocks
from tests.harness.needs import lacking, need_program

PAGES = ROOT / "docs/moving"

# What the machine of every page has: the storage host as the package configures it, and no service manager.
MACHINE = [
    "useradd --system --no-create-home --home-dir /pop pop && useradd --uid 5000 --no-create-home vmail",
    "install -d /etc/popular && install -d -o pop -g pop /pop /var/run/popular /var/log/popular",
    "printf '[server]\\n[[main]]\\naddress = 127.0.0.1:1110\\n' > /etc/popular/pserv.conf",
    "printf '[pcheckd]\\nhost = 127.0.0.1\\n' > /etc/popular/pcheckd.conf",
    "wait_for() { for try in $(seq 200); do \"$@\" && return; sleep 0.05; done; false; }",
    """systemctl() {
        pid=/var/run/popular/$2.pid
        case "$1 $2" in
        "start pproxy") pproxy ;;
        "stop pproxy") kill "$(cat "$pid")" && wait_for [ ! -e "$pid" ] ;;
        restart*) systemctl stop "$2"; systemctl start "$2" ;;
        *) "service_$1_${2%%-*}" ;;
        esac
    }""",
    """mail() { printf 'Subject: %s\\n\\nHello\\n' "$2" > "$1/new/170000000$2.M$2P7.mx"; }""",
    "pserv && pcheckd"]

DOVECOT = """\
{config_version}
protocols = pop3
listen = {address}
log_path = /var/log/dovecot.log
ssl = no
{allow_cleartext}
{maildir}
first_valid_uid = 1
{passdb}
{userdb}
"""
MAILDIRS = ("{maildir}", "{maildir}")
MBOXES = (    # in the languages of VERSIONS
    "mail_location = mbox:~/mail:INBOX=/var/mail/%u",
    "mail_driver = mbox\nmail_path = ~/mail\nmail_inbox_path = /var/mail/%{{user}}")


def dovecot(forms: Sequence[str] = MAILDIRS, address: str = "127.0.0.1", owner: int = 5000) -> list[str]:
    """Return what runs a Dovecot with POP3 for the users in /etc/dovecot/users, whose mail has an owner."""
    need_program("curl")
    try:
        language = find_dovecot().language
    except NoDovecot as why:
        lacking(f"a Dovecot to use ({why})")
    template = DOVECOT.replace("{maildir}", forms[VERSIONS.index(language)])
    config = configure(template, language, address=address, users="/etc/dovecot/users", uid=owner, gid=owner,
                       homes="/srv/mail")
    return ["install -d /etc/dovecot /var/lib/dovecot", f"cat > /etc/dovecot/dovecot.conf <<'END'\n{config}\nEND",
            "service_start_dovecot() { dovecot; }",
            "service_stop_dovecot() { doveadm stop && wait_for [ ! -e /run/dovecot/master.pid ]; }"]


def maildir(path: str, owner: str) -> str:
    """Return what makes a Maildir with three messages."""
    return (f"install -d {path}/cur {path}/new {path}/tmp; for number in 1 2 3; do mail {path} $number; done;"
            f" chown -R {owner}: {path}")


def before_dovecot() -> list[str]:
    """Return what makes a mailbox in which a client has read, and one message was removed in the middle."""
    return [
        *dovecot(), *(f"echo '{user}@example.org:{{PLAIN}}secret' >> /etc/dovecot/users" for user in ("joe", "ann")),
        *(maildir(f"/srv/mail/{user}@example.org/Maildir", "vmail") for user in ("joe", "ann")),
        "chown vmail: /srv/mail/*; systemctl start dovecot",
        *(f"curl -s -u {user}@example.org:secret pop3://127.0.0.1/3" for user in ("joe", "ann")),
        "doveadm expunge -u joe@example.org mailbox INBOX uid 2"]


def before_courier() -> list[str]:
    """Return what starts Courier for one user."""
    need_program("curl")
    serve = ("from pathlib import Path; from tests.harness.courier import Courier;"
             " Courier({\"joe@example.org\": Path(\"/srv/mail/joe\")}, 110).wait()")
    return [
        "service_start_courier() { python3 -c '" + serve + "' & courier=$!;"
        " wait_for curl -s -o /dev/null -u joe@example.org:secret pop3://127.0.0.1/1; }",
        "service_stop_courier() { kill $courier; }", "install -d /etc/courier", maildir("/srv/mail/joe", "vmail"),
        "printf 'joe@example.org\\tuid=5000|gid=5000|home=/srv|mail=/srv/mail/joe|systempw=%s\\n'"
        " \"$(echo secret | ppasswd)\" > /etc/courier/userdb",
        "systemctl start courier-pop; chown -R vmail: /srv/mail/joe"]


def before_qmail() -> list[str]:
    """Return what makes the files of a vpopmail."""
    need_program("curl")
    home = "/home/vpopmail/domains/example.org"
    return ["useradd --system --no-create-home vpopmail", maildir(f"{home}/joe/Maildir", "vpopmail"),
            f"echo \"joe:$(echo secret | ppasswd):1:0:Joe:{home}/joe:NOQUOTA\" > {home}/vpasswd"]


def before_mbox() -> list[str]:
    """Return what makes an mbox that Dovecot serves."""
    return [
        "useradd --uid 5001 --no-create-home --password \"$(echo secret | ppasswd)\" joe",
        *dovecot(MBOXES, owner=5001), "echo 'joe:{PLAIN}secret' > /etc/dovecot/users",
        "install -d -o joe -g joe /srv/mail/joe; chmod 1777 /var/mail",
        "for number in 1 2 3; do echo 'From ann@example.com Mon Jan  5 10:00:00 2026';"
        " printf 'Subject: %s\\n\\nHello\\n\\n' $number; done > /var/mail/joe; chown joe:mail /var/mail/joe",
        "systemctl start dovecot; curl -s -u joe:secret pop3://127.0.0.1/1",
        "doveadm expunge -u joe mailbox INBOX uid 2"]


def before_wire() -> list[str]:
    """Return what makes a server at an address of its own."""
    return ["for host in 2 6 7; do ip address add 10.0.0.$host/32 dev lo; done", *dovecot(address="10.0.0.6"),
            "echo 'joe:{PLAIN}secret' > /etc/dovecot/users", maildir("/srv/mail/joe/Maildir", "vmail"),
            "chown vmail: /srv/mail/*; systemctl start dovecot; curl -s -u joe:secret pop3://10.0.0.6/2"]


def before_perdition() -> list[str]:
    """Return what makes a popmap; there is no Perdition, but the server behind it."""
    return [*before_wire(), "install -d /etc/perdition",
            "printf 'joe:10.0.0.6\\nann:anna@10.0.0.7\\n' > /etc/perdition/popmap",
            "service_start_perdition() { true; }; service_stop_perdition() { true; }"]


def before_c_daemons() -> list[str]:
    """Return what makes a spool and users of 1.5.5."""
    need_program("curl")
    return ["install -d -m 700 /pop/3/2d/joe /pop/3/2d/joe/new /pop/3/2d/joe/cur /pop/3/2d/joe/tmp",
            "printf 'Subject: 1\\n\\nHi\\n' > /pop/3/2d/joe/new/1092830400.M000001_1; chown -R pop: /pop",
            "echo \"joe:$(echo secret | ppasswd):store1::3/2d/joe\" > /etc/popular/users"]


BEFORE = {"c-daemons": before_c_daemons, "courier": before_courier, "dovecot": before_dovecot, "mbox": before_mbox,
          "perdition": before_perdition, "qmail": before_qmail, "wire": before_wire}


def commands_on(page: Path) -> Iterator[Command]:
    """Yield what is typed for a page: what its console blocks show, and the files that other blocks are."""
    for block in code_blocks(page.read_text()):
        language, _, path = block.language.partition(" ")
        if path:
            yield Command(f"cat > {path} <<'END OF BLOCK'\n{block.text}\nEND OF BLOCK")
        elif language == "console":
            yield from commands_of(Example(page.name, 0, "shell", (), f"{block.text}\n"))
        else:
            raise AssertionError(f"{page.name}: a block is neither console nor has it a file name")


@pytest.mark.parametrize("name", BEFORE)
def test_what_the_page_says_can_be_typed(name: str, tmp_path: Path) -> None:
    paths = [courier_folder()] if name == "courier" else []
    before = [Command(text, "...") for text in [*MACHINE, *BEFORE[name]()]]
    commands = [*before, *commands_on(PAGES / f"{name}.md")]
    if any(command.text.endswith("> old") for command in commands):
        commands.append(Command("[ -s old ]"))    # nothing would equal nothing
    for command, answer in zip(commands, typed(tmp_path, [command.text for command in commands], paths)):
        assert answer.code == command.code and command.is_answer(answer.output), (command.text, answer)


def test_every_page_is_typed() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {*BEFORE, "README"}
