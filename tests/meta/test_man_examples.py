"""Every example in the man pages does what the page says: typed on a machine of its own, or read by the real code."""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.config.ini.file import read_ini
from popular.config.store import default_config
from popular.errors import MailcheckError
from popular.mailcheck import packet
from popular.mailcheck.packet import MailState
from popular.net.ring.packet import RingAnswer, RingRequest, Verb, decode_answer, decode_request
from popular.pdm.asking.configured import configured_module
from popular.pop3.response import parse_response
from popular.pop3.xpop import Preamble, preamble_lines, read_preamble
from popular.pproxy.settings import SCHEMA
from scripts.generate import catalogue
from tests.harness.house import typed
from tests.harness.logs import READERS
from tests.harness.manpages import KINDS, Command, Example, commands_of, examples_of, octets_of, pages
from tests.harness.memory import Conversation

EXAMPLES = [example for page in pages() for example in examples_of(page)]
ON_A_MACHINE = ("shell", "config", "rc", "file")
PAGES = sorted({example.page for example in EXAMPLES if example.kind in ON_A_MACHINE})

MAILBOX, SID = "3/2d/joe.doe", "p1-040821121929-4711"

# What the machine of every page has, but for that on which the reader makes it.
MACHINE = [
    "printf '127.0.0.1 localhost\\n10.0.0.5 store1\\n' > /etc/hosts",
    "for host in 10.0.0.5 10.0.0.6 192.0.2.1 192.0.2.2 192.0.2.3; do ip address add $host/32 dev lo || exit 1; done",
]
SITE = [
    "useradd --system --home-dir /pop --create-home pop",
    "install -d /etc/popular /etc/popular/capa",
    "install -d -o pop -g pop /var/run/popular /var/log/popular",
    "printf 'TOP\\nUIDL\\nUSER\\n' > /etc/popular/capa/default",
    "install -o pop -g pop -m 600 /dev/null /etc/popular/users",
]

# What runs there already when the reader comes to the examples of a page.
BEFORE: dict[str, list[str]] = {
    "pcheck.1": ["pcheckd", "echo | runuser -u pop -- pdeliver --create 3/2d/joe.doe"],
    "pcontrol.1": ["pproxy", "echo 'backend add store1 cxpop 10.0.0.5:1110' > /etc/popular/pproxy.rc"],
    "popular-control.5": ["ringd --user pop", "pproxy"],
    "pdeliver.1": ["mkdir -p /etc/postfix", "echo 'joe:{PLAIN}x:store1:cxpop:3/2d/joe' > /etc/popular/users",
                   "printf '[backend]\\n[[store1]]\\nprotocol = cxpop\\naddress = 10.0.0.5:1110\\n[pdm]\\n[[users]]\\n"
                   "module = passwd\\nargs = /etc/popular/users\\n' > /etc/popular/pproxy.conf"],
    "pproxy.8": ["getent group postfix || groupadd --system postfix"],
    "pstatus.1": ["pproxy"],
}
BARE = ("popular.7",)    # on these the reader begins with nothing


def read_log(example: Example) -> None:
    """Read a log line, which the page breaks into several."""
    glue = " " if example.words == ("classic",) else ""
    line = READERS[example.words[0]](glue.join(example.text.splitlines()))
    [row] = [row for row in catalogue() if f"{row.number:04x}" == line.number]
    assert (line.level, line.name, [*line.fields]) == (row.level, row.name, row.fields.split())


def read_octets(check: Callable[[bytes], object]) -> Callable[[Example], None]:
    """Return what gives the octets of an example to `check`, which must find them right."""
    def read(example: Example) -> None:
        assert check(octets_of(example))
    return read


def is_preamble(octets: bytes, *, master: bool) -> bool:
    """Tell whether both ends of XPOP think that this is a preamble for the page's mailbox."""
    conversation = Conversation(read_preamble)
    conversation.exchange(octets)
    read = conversation.result
    assert isinstance(read, Preamble)
    return (read.mailbox, read.sid, read.master) == (MAILBOX, SID, master) and octets == preamble_lines(
        MAILBOX, SID, master)


def is_refusal(octets: bytes, text: str) -> bool:
    """Tell whether this is how pcheckd refuses, and whether a client takes it so."""
    with pytest.raises(MailcheckError, match=text):
        packet.parse_mail_answer(octets)
    return octets == packet.error_answer(text)


HEX: dict[str, Callable[[bytes], object]] = {
    "xpop-preamble-plain": lambda octets: is_preamble(octets, master=False),
    "xpop-preamble": lambda octets: is_preamble(octets, master=True),
    "xpop-accepted": lambda octets: octets.endswith(b"\r\n") and parse_response(octets[:-2]).ok,
    "xpop-refused": lambda octets: octets.endswith(b"\r\n") and not parse_response(octets[:-2]).ok,
    "mailcheck-mailbox": lambda octets: packet.mail_request(MAILBOX) == octets and packet.parse_mailcheck(
        octets) == packet.MailcheckRequest(b"M", MAILBOX.encode()),
    "mailcheck-load": lambda octets: packet.load_request() == octets and packet.parse_mailcheck(
        octets) == packet.MailcheckRequest(b"L", b""),
    "mailcheck-new-mail": lambda octets: packet.mail_answer(MailState.NEW_MAIL) == octets and packet.parse_mail_answer(
        octets) is MailState.NEW_MAIL,
    "mailcheck-load-answer": lambda octets: packet.load_answer(3.23) == octets and packet.parse_load_answer(
        octets) == 3.23,
    "mailcheck-refused": lambda octets: is_refusal(octets, "no such mailbox"),
    "ringd-bind": lambda octets: _ring(octets) == RingRequest(Verb.BIND, 7, _port(110)),
    "ringd-release": lambda octets: _ring(octets) == RingRequest(Verb.RELEASE, 8, _port(110)),
    "ringd-done": lambda octets: _ring(octets) == RingAnswer(7),
    "ringd-refused": lambda octets: _ring(octets).number == 9 and _ring(octets).refusal.startswith("port 25 is not"),
}


def _port(number: int) -> Endpoint:
    return Endpoint("127.0.0.1", number)


def _ring(octets: bytes):
    """Return what a packet of ringd's protocol says, which must be the only way to say it."""
    decode = decode_answer if octets[:1] in b"+-" else decode_request
    said = decode(octets)
    assert said.encode() == octets
    return said


def files_for(example: Example) -> Iterable[str]:
    """Yield commands that make the files of database modules, which --check-config wants to read."""
    for module, path in re.findall(r"^ *module = (\w+)\n *args = (/\S+)", example.text, re.MULTILINE):
        yield f"[ -e {path} ] || install -D -m 644 /dev/null {path}"
        if module == "sqlite":
            yield (f"{sys.executable} -c 'import sqlite3; sqlite3.connect(\"{path}\").execute(\"CREATE TABLE IF NOT "
                   "EXISTS users (user, namespace, password, backend, protocol, mailbox, buser, bpass)\")'")
    if "module = poauth" in example.text:
        yield "poauth list"    # makes the key
    if "module = master" in example.text:
        yield "install -D -m 644 /dev/null /etc/popular/masterauth.conf"


def commands_on_a_machine(example: Example) -> Iterable[Command]:
    """Yield what is typed for an example, and what must come of it."""
    if example.kind == "shell":
        yield from commands_of(example)
        return
    program = example.words[0]
    path = {"config": f"/etc/popular/{program}.conf", "rc": f"/etc/popular/{program}.rc"}.get(example.kind, program)
    yield Command(f"cat > {path} <<'END OF EXAMPLE'\n{example.text}END OF EXAMPLE")
    if example.kind == "config":
        yield from (Command(text) for text in files_for(example))
        yield Command(f"{program} --check-config", "...")    # there may be warnings: most examples are parts of files
    elif example.kind == "rc":    # all of it may be repeated
        yield Command(f"pcontrol --program={program} {path}", "...")
        yield Command(f"pcontrol --program={program} {path}", "...")


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_example_says_of_what_kind_it_is(example: Example) -> None:
    assert example.kind in KINDS, 'put \\" example: KIND before .nf; tests/harness/manpages.py tells the kinds'


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_quotes_can_be_copied(page: Path) -> None:
    """Formatters print others for these two, which no shell takes."""
    blocks = re.findall(r"^\.nf\n(.*?)^\.fi\n", page.read_text(), re.MULTILINE | re.DOTALL)
    assert not any(re.search("['`]", block) for block in blocks), "write \\(aq and \\(ga"


@pytest.mark.parametrize("page", PAGES)
def test_what_can_be_typed_does_what_the_page_says(page: str, tmp_path: Path) -> None:
    steps = [Command(text, "...") for text in [*MACHINE, *([] if page in BARE else SITE), *BEFORE.get(page, [])]]
    for example in EXAMPLES:
        if example.page == page and example.kind in ON_A_MACHINE:
            steps += commands_on_a_machine(example)
    for step, answer in zip(steps, typed(tmp_path, [step.text for step in steps]), strict=True):
        assert answer.code == step.code, f"{step.text}\n{answer.output}"
        assert step.is_answer(answer.output), f"{step.text}\n{answer.output}"


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example.kind == "log"], ids=str)
def test_log_lines_are_such(example: Example) -> None:
    read_log(example)


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example.kind == "hex"], ids=str)
def test_octets_are_what_the_real_code_says_and_takes(example: Example) -> None:
    [name] = example.words
    read_octets(HEX[name])(example)


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example.kind == "modules"], ids=str)
def test_database_modules_take_their_arguments(example: Example, tmp_path: Path) -> None:
    path = tmp_path / "pproxy.conf"
    path.write_text(example.text)
    config = read_ini(str(path), SCHEMA, default_config(SCHEMA))
    assert [configured_module(item, config).describe() for item in config.items("pdm")] != []


def test_every_octet_example_is_there_once() -> None:
    assert sorted(example.words[0] for example in EXAMPLES if example.kind == "hex") == sorted(HEX)
