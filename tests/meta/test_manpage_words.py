"""Man pages against what there is, in their prose: words in bold, options, references, numbers and paths."""

import dataclasses
import re
from pathlib import Path

import pytest

from popular import paths
from popular.config.setting import Setting
from popular.log.message import LEVELS
from popular.mailcheck.packet import MailState
from popular.net.ring.packet import Verb
from popular.pdm.api import Answer, Found, Outcome, PdmModule, Request
from popular.pdm.records import RECORD_FIELDS
from popular.pdm.rules import RULES
from popular.statefile.layout import BACKEND_STATES, DELIVERY, FAILURES, PROXY, SERVER, STATES
from popular.tools import poauth
from popular.tools.pmigrate.handover import SwitchStep
from popular.tools.pmigrate.job import MoveCommand, MoveVerdict
from popular.tools.pmigrate.sources.mbox import QUOTINGS, UIDLS
from popular.tools.pmigrate.sources.pop3 import POP3_PORTS
from popular.tools.pstatus.top.keys import KEYS as KEYS_OF_TOP
from scripts.generate import CONFIGURED, arguments_of, catalogue, schema_of
from tests.harness.house import typed
from tests.harness.logs import KEYS
from tests.meta.test_generated import SCHEMAS
from tests.meta.test_manpages import CONTROLLED, OPTION, PAGES, PROGRAMS, ROOT, commands_of, help_of

BLOCK = re.compile(r"^\.nf\n.*?^\.fi\n", re.MULTILINE | re.DOTALL)
MACRO = re.compile(r"^\.(B|BR|BI|RB|IB) +(.*)$", re.MULTILINE)
WORD = re.compile(r'"([^"]*)"|(\S+)')
REFERENCE = re.compile(r'^\.BR "?([\w.-]+)"? \((\d)\)|([\w.-]+)\((\d)\)', re.MULTILINE)

# Words in bold that are no names of anything that POPular has, and what they are.
OTHER_WORDS = {
    "add", "remove", "enable", "disable", "drained", "disabled",    # parts and states of commands
    "no", "yes", "true", "false", "being-written", "touch", "mails", "staff", "bind", "release",
    "y", "fg",                                                      # what is typed to a question, and to a shell
    "systemctl",                                                    # of systemd
    "yescrypt",                                                     # a form of crypt(3)
    "allowsslv2",                                                   # gone, as the page says
}
# Options that no --help tells, or of programs of others.
OTHER_OPTIONS = {"nodeamon"}
# Pages that others bring.
FOREIGN = {
    "cron(8)", "crypt(3)", "fcntl(2)", "ldap.conf(5)", "link(2)", "listen(2)", "renameat2(2)", "sd_listen_fds(3)",
    "sd_notify(3)", "shutdown(2)"}
# Paths that are none of ours.
OTHER_PATHS = {"/dev/log", "/dev/null", "/etc/pam.d", "/etc/postfix/master.cf",
               "/etc/ssl/certs/ca-certificates.crt", "/etc/systemd/system", "/run/mysqld/mysqld.sock",
               "/run/postgresql"}
# What an administrator makes, in the places that pages name.
MADE_BY_HAND = {
    "/etc/popular/pproxy.rc", "/etc/my", "/etc/popular/oauth.key", "/var/lib/popular/oauth/tokens.db"}


def rows() -> list[Setting]:
    """Return every variable and key of all programs."""
    return [row for schema in SCHEMAS.values() for row in [
        *schema.settings, *(row for cls in schema.classes for row in cls.rows)]]


def prose(page: Path) -> str:
    """Return a page without its examples and comments, and without escapes."""
    return re.sub(r'\\f.|\\&|^\.\\".*\n', "", BLOCK.sub("", page.read_text()), flags=re.MULTILINE).replace("\\-", "-")


def bold(page: Path) -> set[str]:
    """Return what stands in bold in a page's prose, each macro's piece by itself; references to pages left out."""
    found: set[str] = set()
    for macro, rest in MACRO.findall(prose(page)):
        words = [quoted or bare for quoted, bare in WORD.findall(rest)]
        if macro == "B":
            found.add(" ".join(words))
        elif not (macro == "BR" and re.match(r"\(\d\)", "".join(words[1:2]))):
            found.update(words[0::2] if macro[0] == "B" else words[1::2])
    return found


def names() -> set[str]:
    """Return every word that means something in POPular."""
    known = {*PROGRAMS, *OTHER_WORDS, *STATES, *BACKEND_STATES, *FAILURES}
    known |= {*PROXY.counters, *SERVER.counters, *DELIVERY.counters, *KEYS, *map(str, Verb)}
    known |= {row.name for row in rows()} | {cls.name for schema in SCHEMAS.values() for cls in schema.classes}
    modules = [*(ROOT / "pdm_modules").glob("pdm_*.py")]
    known |= {path.stem.removeprefix("pdm_") for path in modules}
    known |= {row.name for path in modules for row in arguments_of(path)}
    known |= {word for row in rows() for word in getattr(row.kind, "words", ())}
    known |= {row.name for row in catalogue()} | {level.lower() for level in LEVELS}
    known |= {field for row in catalogue() for field in row.names}
    known |= {word for program in CONTROLLED for command in commands_of(program)
              for word in re.findall(r"[a-z]+", command.pattern.usage)}
    known |= {name for cls in (Request, Found, Answer, Outcome, PdmModule) for name in dir(cls)}
    known |= {field.name for cls in (Request, Found, Answer) for field in dataclasses.fields(cls)}
    known |= set(re.findall(r'"([a-z]+)"', (ROOT / "popular/tools/pstatus/document.py").read_text()))
    known |= {word.lower() for key in KEYS_OF_TOP for word in re.findall(r"\w+", key.shown)}
    known |= {*RECORD_FIELDS, *RULES}
    known |= {*poauth.COMMANDS, *poauth.CONSENT_STATES}
    known |= {step.value for step in SwitchStep}
    known |= {*QUOTINGS, *UIDLS, *(word.value for word in [*MoveCommand, *MoveVerdict]), *POP3_PORTS}    # of pmigrate
    known |= {"rate", "top"}    # a column of the live view, the extra for it
    known |= {"file", "mail", "syslog", "stderr", "times"}    # kinds and places of logs
    return known


def all_options() -> set[str]:
    """Return the long options of all programs."""
    return {option for program in PROGRAMS for option in OPTION.findall(help_of(program))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_words_in_bold_are_names_of_something(page: Path) -> None:
    words = {word for phrase in bold(page) if re.fullmatch(r"[a-z_-]+( [a-z_-]+)*", phrase) for word in phrase.split()}
    assert {word for word in words if word[0].isalpha()} - names() == set()


def test_not_every_word_in_bold_is_let_pass() -> None:
    assert not names() & {"maxsessions", "softfails", "restart", "popular"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_the_prose_gives_are_possible(page: Path) -> None:
    for phrase in bold(page):
        found = re.fullmatch(r"([a-z]+) = ([a-z0-9]+)", phrase)
        if found is not None:
            kinds = [row.kind for row in rows() if row.name == found[1]]
            assert kinds and any(_takes(kind, found[2]) for kind in kinds), phrase


def _takes(kind: object, text: str) -> bool:
    try:
        kind.parse(text)    # type: ignore[attr-defined]
    except ValueError:
        return False
    return True


def test_options_that_pages_name_exist() -> None:
    known = all_options()
    for page in PAGES:
        unknown = set(OPTION.findall(prose(page))) - known - OTHER_OPTIONS
        assert unknown == set(), page.name


def test_pages_that_pages_name_exist() -> None:
    ours = {f"{path.stem}({path.suffix[1:]})" for path in PAGES}
    named: set[str] = set()
    for page in PAGES:
        found = {f"{name or other}({number or digit})" for name, number, other, digit in REFERENCE.findall(prose(page))}
        assert found - ours - FOREIGN == set(), page.name
        named |= found
    assert FOREIGN <= named, "a page of others that nobody names"


def test_the_first_page_leads_to_all_others() -> None:
    told = set(re.findall(r"^\.BR (\S+) \((\d)\)", prose(ROOT / "man/popular.7").partition(".SH SEE ALSO")[2],
                          re.MULTILINE))
    assert told == {(path.stem, path.suffix[1:]) for path in PAGES if path.name != "popular.7"}


def test_numbers_of_messages_that_the_prose_names_exist() -> None:
    known = {f"{row.number:04x}" for row in catalogue()} | {"0000"}
    modes = {"0700", "0600", "0660"}
    for page in PAGES:
        assert set(re.findall(r"(?<![\w.])0[0-9a-f]{3}\b", prose(page))) - modes <= known, page.name


def test_states_of_a_mailbox() -> None:
    text = prose(ROOT / "man/popular-protocols.7")
    told = re.findall(r'^\.B "\+OK (\d) [a-z ]+"$', text, re.MULTILINE)
    assert [int(digit) for digit in told] == [*MailState]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_pages_name_are_those_that_programs_use(page: Path) -> None:
    text = prose(page)
    told = {path.rstrip(".,:") for path in re.findall(r"(?<![\w./*\]])/(?:etc|var|pop|dev|usr)(?:/[\w.-]*)*", text)}
    assert {path.rstrip("/") for path in told} - known_paths() == set()


def known_paths() -> set[str]:
    """Return the paths that the tables have, and the folders above them."""
    found = {*OTHER_PATHS, *MADE_BY_HAND, paths.CONFDIR, paths.CAPADIR, paths.LOGDIR, paths.RUNDIR, paths.SPOOLDIR,
             paths.MOVEDIR,
             f"{paths.CONFDIR}/masterauth.conf", f"{paths.RUNDIR}/ringd.sock"}
    for program in [*CONFIGURED, "pdeliver"]:
        found |= {f"{paths.CONFDIR}/{program}.conf", f"{paths.LOGDIR}/{program}"}
        found |= {f"{paths.RUNDIR}/{program}.{end}" for end in ("pid", "state", "ctrl")}
    defaults = [row.show(row.default) for program in CONFIGURED for row in schema_of(program).settings]
    return found | {text for text in defaults if text is not None and text.startswith("/")}


def test_files_that_programs_make_are_told(tmp_path: Path) -> None:
    """Whatever lies there when everything runs is in the pages' lists of files, and nothing else is."""
    commands = [
        "useradd --system --home-dir /pop --create-home --skel /none pop; install -d /etc/popular",
        "install -d -o pop -g pop /var/run/popular /var/log/popular",
        "ringd --user pop && pcheckd && pserv && plmtpd && pproxy",
        "echo | runuser -u pop -- pdeliver --create joe; touch /pop/joe/.removed; pclean",
        "ls -d /var/run/popular/* /var/log/popular/* /pop/.[a-z]* | sed 's/[.][0-9]*[.]ctrl/.PID.ctrl/'"]
    *_, listed = typed(tmp_path, commands)
    assert listed.code in (0, 2), listed.output    # 2: a run of pclean that came through leaves no file
    made = {line for line in listed.output.splitlines() if line.startswith("/var/")}
    told: set[str] = set()
    for page in PAGES:
        text = prose(page).partition(".SH FILES\n")[2].partition("\n.SH ")[0]
        told |= set(re.findall(r"^\.TP\n\.I (/var/(?:run|log)/popular/\S+)$", text, re.MULTILINE))
    in_control = {f"{paths.RUNDIR}/{program}.PID.ctrl" for program in CONTROLLED}    # PROGRAM.PID.ctrl in its page
    assert "PROGRAM.PID.ctrl" in prose(ROOT / "man/popular-control.5")
    assert made - in_control == told


def test_the_reader_of_bold_words_itself(tmp_path: Path) -> None:
    page = tmp_path / "x.1"
    page.write_text('.B one two\n.BR three , four\n.RB ( five )\n.BI "six " SEVEN\n.IR not " bold"\n.BR pproxy (8)\n'
                    ".nf\n.B example\n.fi\n")
    assert bold(page) == {"one two", "three", "four", "five", "six "}
