"""The UIDLs that Dovecot gives to the messages of a Maildir, from the file `dovecot-uidlist` of version 1 or 3.

Part of pmigrate.  In version 3 a line is `UID EXTENSIONS :NAME`.  An extension P is a UIDL that was fixed, empty for
the name itself; O is a place in the order of POP3, before all messages without; G is a GUID other than the name; W the
size on the wire.  A message without P has a UIDL by the setting pop3_uidl_format.

What POP3 gives by other settings is not known here: by pop3_reuse_xuidl, the headers X-UIDL; by pop3_deleted_flag,
which messages are hidden.  Raises SourceError.
"""

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from popular.tools.pmigrate.sources.remembered import Remembered, bare_name
from popular.tools.pmigrate.sources.source import SourceError
from popular.tools.pmigrate.sources.uidlformat import DovecotIdentity, uidl_of

DOVECOT_LIST = "dovecot-uidlist"

_DEFAULT = "%08Xu%08Xv"    # pop3_uidl_format
_SECONDS = 20              # for doveconf
_VERSION_1 = re.compile(r"1 ([0-9]{1,10}) [0-9]{1,10}", re.ASCII)
_VERSION_3 = re.compile(r"3(?= )(?: +[A-Z][^ ]*)* *", re.ASCII)
_VALIDITY = re.compile(r" V([0-9]{1,10})(?= |\Z)", re.ASCII)
_LINE_1 = re.compile(r"([0-9]{1,10}) +()([^/:][^/]*)", re.ASCII)
_LINE_3 = re.compile(r"([0-9]{1,10}) +((?:[A-Z][^ ]* +)*):([^/:][^/]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the list."""

    uid: int
    key: str
    extensions: dict[str, str]

    @property
    def rank(self) -> tuple[bool, int, int]:
        order = self.extensions.get("O", "")
        return not order.isdigit(), int(order) if order.isdigit() else 0, self.uid


def dovecot_uids(text: str, keys: Iterable[str], find_form: Callable[[], str]) -> Remembered:
    """Return what Dovecot remembers by the text of its list, for a Maildir with these keys.

    `find_form` returns pop3_uidl_format, and is called if that is needed.  A message that Dovecot has not listed yet is
    left out, because its UID is not known, unless the format needs none.
    """
    lines = text.split("\n")[:-1]    # what is behind the last line end is being written
    validity, rows = _parsed(lines) if lines else (0, [])
    uids: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.rank):
        fixed = row.extensions.get("P")
        if fixed is None:
            fixed = uidl_of(find_form(), DovecotIdentity(row.uid, validity, row.extensions.get("G", row.key), row.key))
        uids[row.key] = fixed or row.key
    unlisted = sorted(set(keys) - uids.keys())
    if unlisted and _needs_no_uid(find_form()):
        uids.update((key, uidl_of(find_form(), DovecotIdentity(0, validity, key, key))) for key in unlisted)
    return Remembered(uids, {
        row.key: int(size) for row in rows if (size := row.extensions.get("W", "")).isdigit()})


@cache
def configured_format(config: str) -> str:
    """Return pop3_uidl_format of the Dovecot that is installed here, else Dovecot's default; asked once.

    `config` is the file of its configuration, empty for the usual one.
    """
    words = ["doveconf", *(["-c", config] if config else []), "-f", "protocol=pop3", "-h", "pop3_uidl_format"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True,
                              text=True, errors="replace")
    except FileNotFoundError:
        return _DEFAULT
    except (OSError, subprocess.SubprocessError) as why:
        raise SourceError(f"doveconf does not tell pop3_uidl_format, so give --uidl-format: {why}") from why
    return done.stdout.strip() or _DEFAULT


def _needs_no_uid(form: str) -> bool:
    """Tell whether UIDLs of this form depend neither on the UID nor on the UIDVALIDITY, which may not exist yet."""
    try:
        first, second = (uidl_of(form, DovecotIdentity(number, number, "guid", "name")) for number in (1, 2))
    except SourceError:
        return False
    return first == second


def _parsed(lines: list[str]) -> tuple[int, list[_Row]]:
    """Return the UIDVALIDITY, and the rows; a file that is listed twice has the later UID, as in Dovecot."""
    head = lines[0]
    first, third = _VERSION_1.fullmatch(head), _VERSION_3.fullmatch(head)
    validity = first or (third and _VALIDITY.search(head))
    if validity is None:
        raise SourceError(f"{DOVECOT_LIST}: line 1: neither version 1 nor 3")
    rows = {row.key: row for row in _rows(lines, _LINE_1 if first else _LINE_3)}
    return int(validity[1]), list(rows.values())


def _rows(lines: list[str], form: re.Pattern[str]) -> Iterator[_Row]:
    for number, line in enumerate(lines[1:], 2):
        found = form.fullmatch(line)
        if found is None:
            raise SourceError(f"{DOVECOT_LIST}: line {number} is damaged")
        yield _Row(int(found[1]), bare_name(found[3]), {word[0]: word[1:] for word in found[2].split()})
