"""Targets: what lies in files, and what administrators write.  Each raises for what must not happen, and only then."""

import contextlib
import io
import os
import struct
import tempfile
from collections.abc import Iterator

from pdm_modules import pdm_master, pdm_passwd
from popular.addresses import parse_endpoint
from popular.config.changes import Change, changes_from
from popular.config.ini.edit import edited
from popular.config.ini.file import read_ini
from popular.config.ini.text import quote, render_ini, unquote
from popular.config.kinds import Addresses, Bool, Float, Id, Int, Kind, String, Time
from popular.config.lines import Lines
from popular.config.mistakes import ConfigError
from popular.config.store import default_config, with_variable
from popular.errors import PdmError, StoreError
from popular.log.line import MAX_VALUE, word
from popular.net.stuffing import stuffed, stuffed_file
from popular.net.transport import FilePart
from popular.pdm import records, secrets
from popular.pdm.databases import cdbfile
from popular.pop3.capability import parse_list, render
from popular.pproxy.settings import SCHEMA
from popular.statefile.layout import FIXED, MAGIC, PROXY, Layout
from popular.statefile.reader import NotAStateFile, StateFileView
from popular.store import sizelist, uidlist
from popular.store.filename import (
    MAX_NAME, base_of, is_ours, plain_octets, rank_of, size_of, sort_plain, time_of, twin_base, uid_of, with_base)
from popular.store.lineends import MAIL_FORMS, CrlfReader, message_blocks, wire_size
from popular.store.listing import list_messages
from popular.store.mailbox import Mailbox
from popular.tools import pmakecdb
from popular.tools.ptestpdm import main as ptestpdm

KINDS: tuple[Kind, ...] = (
    Bool(), Int(-5, 500), Float(0.0, 9.5), String(40), Id(), Time(0, 86400), Addresses(), Lines(80))
DEAR = ("$y$", "$2", "$7$", "argon2", "$gy$", "rounds=")    # each costs a tenth of a second in somebody else's code


def _statefile() -> bytes:
    """Return a state file with three slots of which nothing is known yet."""
    layout = Layout(3)
    fixed = FIXED.pack(MAGIC, PROXY.magic, *layout.places(), 1, 2, b"2.0.0", b"host", 0, 0)
    return fixed.ljust(layout.size, b"\0")


STATEFILE = _statefile()


@contextlib.contextmanager
def file_with(data: bytes) -> Iterator[int]:
    """Give a descriptor of a file in memory."""
    fd = os.memfd_create("fuzzed")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def file_names(data: bytes) -> None:
    """Names of messages, from whatever program: ids are usable, bases stay, sizes are numbers."""
    names = [os.fsdecode(name) for name in data.split(b"/") if name]
    for name in names:
        uid = uid_of(name)
        assert 1 <= len(uid) <= 70 and all("!" <= letter <= "~" for letter in uid) or not base_of(name)
        assert with_base(name, base_of(name)) == name
        assert not is_ours(name) or (size_of(name) is not None and time_of(name) is not None)
        assert uid_of(f"{base_of(name)}:2,S") == uid
        if len(os.fsencode(name)) <= MAX_NAME:
            assert base_of(twin := twin_base(name, 4711)) == twin
    octets = plain_octets(names)
    if octets is not None:
        assert octets == sum(size_of(name) or 0 for name in names) and all(map(is_ours, names))
        plain = list(names)
        sort_plain(plain)
        assert plain == sorted(names, key=rank_of)


def line_ends(data: bytes) -> None:
    """Messages of all forms: what is stored ends in CRLF and has no LF alone; a file's size is what is read."""
    for form in MAIL_FORMS:
        found = b"".join(message_blocks(_Pieces(data), form))
        assert found.endswith(b"\r\n") and b"\n" not in found.replace(b"\r\n", b"")
        assert found == b"".join(message_blocks(io.BytesIO(data), form))
    with file_with(data) as fd, open(os.dup(fd), "rb", buffering=0) as file:
        file.seek(0)
        read = CrlfReader(file).read()
        assert len(read) == wire_size(io.BytesIO(data))
        text = data.replace(b"\r", b"")
        assert read.replace(b"\r", b"") in (text, text + b"\n")    # the last line gets an end, too


class _Pieces(io.RawIOBase):
    """A source that gives few octets at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._left = data

    def read(self, size: int = -1, /) -> bytes:
        found, self._left = self._left[:3], self._left[3:]
        return found


def stuffing(data: bytes) -> None:
    """A message on the wire: one final dot, which nothing in the message can be taken for; both ways alike."""
    sent = b"".join(stuffed(io.BytesIO(data)))
    assert sent.endswith(b"\r\n.\r\n") or sent == b".\r\n"
    assert b"\r\n.\r\n" not in sent[:-5] and not sent[:-3].startswith(b".\r\n")
    whole = sent[:-3].removeprefix(b".") if data.startswith(b".") else sent[:-3]
    assert whole.replace(b"\n..", b"\n.") in (data, data + b"\r\n")
    top = b"".join(stuffed(io.BytesIO(data), 1))
    assert top.endswith(b".\r\n")
    with file_with(data) as fd:
        parts = [os.pread(part.fd, part.count, part.start) if isinstance(part, FilePart) else part
                 for part in stuffed_file(fd, len(data))]
    assert b"".join(parts) == sent


def cdb_file(data: bytes) -> None:
    """A constant database, damaged or not: a record of at most the limit, nothing, or ValueError."""
    key, _, file = data.partition(b"|")
    with file_with(file) as fd, contextlib.suppress(ValueError):
        found = cdbfile.find(fd, key, records.MAX_RECORD)
        assert found is None or len(found) <= records.MAX_RECORD
    made = io.BytesIO()
    pairs = [(line, line[::-1]) for line in dict.fromkeys(file.split(b"\n")[:20])]
    cdbfile.write(made, pairs)
    with file_with(made.getvalue()) as fd:
        assert all(cdbfile.find(fd, key, len(file)) == value for key, value in pairs)


def passwd_file(data: bytes) -> None:
    """A users file and a name: by bisection nothing else is found than by reading all."""
    key, _, text = data.partition(b"|")
    if records.key_of(os.fsdecode(key)) != key:
        return
    with file_with(text) as fd:
        with contextlib.suppress(ValueError):
            plain = pdm_passwd.find_unsorted(fd, key, len(text))
            assert plain is None or b"\n" not in plain
            with contextlib.suppress(pdm_passwd.NotSorted):
                assert pdm_passwd.find_sorted(fd, key, len(text)) in (plain, None)


def master_file(data: bytes) -> None:
    """The file of master passwords: lines, or one clear error without the secret."""
    try:
        grants = pdm_master._parse("file", data)
    except PdmError as why:
        assert str(why).startswith("file: line ")
    else:
        assert all(grant.stored and grant.namespace for grant in grants)


def user_record(data: bytes) -> None:
    """A user's record: it is read, or ValueError; its secret is checked, or ValueError that does not show it."""
    with contextlib.suppress(ValueError):
        record = records.parse_record(data)
        assert record.stored and "stored" not in repr(record)


def stored_password(data: bytes) -> None:
    """A stored password of any form, as hostile as a database can be: true, false, or ValueError without it."""
    stored, _, password = data.partition(b"\n")
    text = stored.decode("utf-8", "surrogateescape")
    if any(dear in text.lower() for dear in DEAR):
        return
    try:
        secrets.verify(text, password)
    except ValueError as why:
        secret = text.partition("}")[2] if text.startswith("{") else text
        assert len(secret) < 12 or secret not in str(why)


def ini_file(data: bytes) -> None:
    """An INI file: it is read, and shown as a file that reads alike; or every mistake names file and place."""
    path = f"/proc/self/fd/{(fd := os.memfd_create('ini'))}"
    try:
        os.write(fd, data)
        try:
            config = read_ini(path, SCHEMA, default_config(SCHEMA))
        except ConfigError as why:
            assert why.mistakes and all(path in mistake.where for mistake in why.mistakes)
            return
        os.ftruncate(fd, 0)
        os.pwrite(fd, render_ini(config, SCHEMA).encode("utf-8", "surrogateescape"), 0)
        again = read_ini(path, SCHEMA, default_config(SCHEMA))
        assert render_ini(again, SCHEMA) == render_ini(config, SCHEMA)
    finally:
        os.close(fd)


def edited_ini_file(data: bytes) -> None:
    """An INI file in which one value is changed in place: it reads as before, but for that value."""
    with contextlib.suppress(ConfigError, UnicodeDecodeError), file_with(data) as fd:
        config = read_ini(f"/proc/self/fd/{fd}", SCHEMA, default_config(SCHEMA))
        lines = edited(data.decode("utf-8").split("\n"), (Change("pproxy", "", {"maxerrors": "77"}),))
        os.ftruncate(fd, 0)
        os.pwrite(fd, "\n".join(lines).encode("utf-8"), 0)
        try:
            again = read_ini(f"/proc/self/fd/{fd}", SCHEMA, default_config(SCHEMA))
        except ConfigError:
            return    # pcontrol refuses to write that
        wanted = render_ini(with_variable(config, SCHEMA, "maxerrors", "77"), SCHEMA)
        assert render_ini(again, SCHEMA) == wanted or "maxerrors = 77" not in render_ini(again, SCHEMA)


def told_changes(data: bytes) -> None:
    """What a daemon, perhaps a hostile one, says to be changed: it is of the known form, or ValueError."""
    with contextlib.suppress(ValueError):
        told = changes_from(data.decode("utf-8", "replace"))
        assert isinstance(told.path, str) and all(isinstance(change.section, str) for change in told.changes)


def size_list(data: bytes) -> None:
    """The sizes beside the names: numbers, or an empty list; what is written is read alike."""
    with tempfile.TemporaryDirectory() as folder:
        mailbox = Mailbox(folder, "box")
        mailbox.create()
        with open(f"{mailbox.path}/{sizelist.SIZES_NAME}", "wb") as file:
            file.write(data)
        sizes = sizelist.SizeList(mailbox)
        twins = sizes.twins()
        assert all(min(*twin, turn) >= 0 for twin, turn in twins.items())
        sizes.keep_twins(twins)
        sizes.save()
        assert sizelist.SizeList(mailbox).twins() == twins


def uid_list(data: bytes) -> None:
    """The ids given elsewhere: all different, and messages get one each; what is added counts; or MailboxError."""
    with tempfile.TemporaryDirectory() as folder:
        mailbox = Mailbox(folder, "box")
        mailbox.create()
        with open(f"{mailbox.path}/{uidlist.UIDS_NAME}", "wb") as file:
            file.write(data)
        for name in ("new/1.5_6", "new/1.5_6,U", "cur/1.5_6:2,S", "cur/1.x", "cur/1.x:2,S", "new/2.x"):
            with open(f"{mailbox.path}/{name}", "wb"):
                pass
        with contextlib.suppress(StoreError):
            given = uidlist.given_uids(mailbox.path)
            uids = [message.uid for message in list_messages(mailbox, given=lambda: given)]
            assert len(set(uids)) == 6 and len(set(given.values())) == len(given)
            assert set(uids) >= {given[base] for base in ("1.5_6", "1.x", "2.x") if base in given}
            (base,) = uidlist.give_uids(mailbox.path, [("u1", "1.new")])
            assert uidlist.given_uids(mailbox.path) == given | {base: "u1"}


def values(data: bytes) -> None:
    """A value of each kind of setting: what is read is shown as what reads alike, else ValueError says why not."""
    text = data.decode("utf-8", "replace")
    for kind in KINDS:
        try:
            value = kind.parse(text)
        except ValueError as why:
            assert str(why)
        else:
            assert kind.parse(kind.show(value)) == value
    with contextlib.suppress(ValueError):
        assert parse_endpoint(str(parse_endpoint(text))) == parse_endpoint(text)
    if "\n" not in text and "\r" not in text:
        with contextlib.suppress(ValueError):
            assert unquote(quote(text)) == text


def capability_list(data: bytes) -> None:
    """A list of capabilities: the answer to CAPA has one end."""
    with contextlib.suppress(ValueError):
        answer = render(parse_list(data.decode("utf-8", "surrogateescape")))
        assert answer.endswith(b"\r\n.\r\n") and b"\n.\r\n" not in answer[:-5]


def state_file(data: bytes) -> None:
    """A state file in which some octets are others: what it says, or NotAStateFile."""
    statefile = bytearray(STATEFILE)
    while len(data) > 4:
        (place, count), data = struct.unpack_from("<HH", data), data[4:]
        statefile[place:place + count % 500] = data[:count % 500]
        data = data[count % 500:]
    with contextlib.suppress(NotAStateFile):
        view = StateFileView(lambda offset, size: bytes(statefile[offset:offset + size]))
        rows = view.rows(0, 200)
        assert len(rows) <= 201 and all(row is None or row.slot >= 0 for row in rows)
        view.totals()


def text_of_users(data: bytes) -> None:
    """Lines of pmakecdb and ptestpdm: a user each, or what is wrong, without the password."""
    for line in data.split(b"\n"):
        key, _, record = line.partition(b":")
        pmakecdb.fault_of_line(key, record)
        with contextlib.suppress(ValueError):
            request = ptestpdm.parse_request(line)
            assert " " not in ptestpdm.printable_word(request.user)


def log_word(data: bytes) -> None:
    """Any text as one word of the log: printable, without blanks."""
    found = word(data.decode("utf-8", "surrogateescape")[:MAX_VALUE])
    assert found and found.isascii() and found.isprintable() and " " not in found
