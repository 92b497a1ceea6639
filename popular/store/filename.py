"""Names of message files: ours (spec 9.1) and those that other Maildir programs give.

Ours are `TIME.PID_SIZE`, for example `945113196.14341_1067`, or with microseconds, `TIME.PID.Mnnnnnn_SIZE`, if
the mailbox has already changed within that second.  SIZE is the size on the wire, so no stat is needed.
In any other name `,W=SIZE` is the size on the wire; without it the size is not known.  What follows the first `,` or
`:` may change while a message is kept (sizes, flags).  What stands before it, the base, never changes.

Pure functions, used in the children of pserv, in pdeliver and in pclean.  Nothing here raises.
"""

import binascii
import hashlib
import os
import re
from itertools import pairwise

from popular.store.plainname import base_of, new_name, plain_octets

__all__ = ["MAX_NAME", "MAX_UID", "base_of", "is_ours", "lacks_seen", "mark_of", "new_name", "plain_octets", "rank_of",
           "read_name", "size_of", "sort_plain", "time_of", "twin_base", "uid_of", "with_base"]

MAX_UID = 70      # octets of a unique id, each of 0x21-0x7E (RFC 1939 section 7)
MAX_NAME = 255    # octets of a file name, the limit of all common file systems

# As strict as possible: `1075238321.16373_1.host` is procmail's, and its 1 is not a size.
_OURS = re.compile(r"([0-9]{1,18}\.[0-9]{1,18})(?:\.M[0-9]{1,18})?_([0-9]{1,18})(?![^,:])", re.ASCII)
_WIRE_SIZE = re.compile(r"[^:]*,W=([0-9]{1,18})(?![^,:])", re.ASCII)
# After the time, our names have the process id and perhaps microseconds.  Other programs put a letter before each
# number: M (Exim: H) is the microseconds, which need no leading zeros there, and P is the process id.
_MOMENT = re.compile(r"([0-9]{1,18})\.(?:([0-9]{1,18})(?=[._])\.?)?"
                     r"(?:(?:[#A-GI-LN-Z][0-9a-f]*){0,4}[MH]([0-9]{1,6})(?![0-9]))?", re.ASCII)
_DISK_SIZE = re.compile(r"[^:]*,S=([0-9]{1,18})(?![^,:])", re.ASCII)
_UID = re.compile(r"[\x21-\x7e]{1,%d}" % MAX_UID)

_FLAGS = ":2,"    # stands before the flags of a Maildir file

_Rank = tuple[int, int, int, int, str]


def mark_of(name: str) -> int:
    """Return a number that tells the bases of one file's names apart, but not the bases of different files."""
    return binascii.crc32(os.fsencode(base_of(name)))


def is_ours(name: str) -> bool:
    """Tell whether a name has our form; such a file has CRLF line ends and is sent as it is."""
    return _OURS.match(name) is not None


def size_of(name: str) -> int | None:
    """Return the wire size that a name tells; None if the file must be read to count it."""
    told = _OURS.match(name)
    if told is not None:
        return int(told[2])
    told = _WIRE_SIZE.match(name)
    return int(told[1]) if told is not None else None


def time_of(name: str) -> int | None:
    """Return the UNIX time of delivery that a name of our form tells, or None."""
    ours = _OURS.match(name)
    return int(ours[1].partition(".")[0]) if ours is not None else None


def uid_of(name: str) -> str:
    """Return the unique id of the message with this name: its base, or a hash of it if the base is not a valid id.

    It is the same for all names that a message ever has.  `twin_base` tells two messages with the same base apart.
    """
    base = base_of(name)
    return base if _UID.fullmatch(base) else _hashed(base)


def twin_base(name: str, inode: int) -> str:
    """Return another base for a message whose base is taken: a valid unique id, with the size if it has our form."""
    base = base_of(name)
    ours = _OURS.match(base)
    if ours is not None:
        twin = f"{ours[1]}.M{inode % 10**18}_{ours[2]}"
    else:
        twin = f"{base}.T{inode}"
    return twin if _UID.fullmatch(twin) else _hashed(twin)


def with_base(name: str, base: str) -> str:
    """Return `name` with another base."""
    return base + name[len(base_of(name)):]


def lacks_seen(name: str) -> bool:
    """Tell whether a name has flags, but not the flag `S`, which Maildir programs give to read messages."""
    _, mark, flags = name.partition(_FLAGS)
    return bool(mark) and "S" not in flags


def read_name(name: str, flags_own: bool) -> str:
    """Return the name of a message after it was read: with the flag `S`; `flags_own`: also for names of our form.

    Names of our form have no flags unless another program has added some.  The part before the flags never changes.
    """
    if not flags_own and ":" not in name and is_ours(name):
        return name
    kept, mark, flags = name.partition(_FLAGS)
    if "S" in flags or not mark and ":" in name or flags and not (flags.isascii() and flags.isalpha()):
        return name
    seen = f"{kept}{_FLAGS}{''.join(sorted(flags + 'S'))}"
    return seen if len(os.fsencode(seen)) <= MAX_NAME else name


def unread_names(name: str) -> list[str]:
    """Return the names from which `read_name` may have made `name`, itself first."""
    kept, mark, flags = name.partition(_FLAGS)
    if "S" not in flags:
        return [name]
    return [name, f"{kept}{mark}{flags.replace('S', '')}", *([kept] if flags == "S" else [])]


def tells_size(name: str, octets: int) -> bool:
    """Tell whether a foreign name with `,W=` also has `,S=`, and that equals `octets`, the size on disk."""
    told = _DISK_SIZE.match(name)
    return told is not None and int(told[1]) == octets and size_of(name) is not None


def rank_of(name: str) -> _Rank:
    """Return the sort key of a name, whose last part is its base; names without a time come last.

    It is the order of delivery as far as names tell: by seconds, then by microseconds.  A name without microseconds
    comes first, since ours have some unless they were the first in their second.  Then process ids decide, since the
    kernel assigns them in ascending order.
    """
    base = base_of(name)
    told = _MOMENT.match(base)
    if told is None:
        return 1, 0, 0, 0, base
    seconds, pid, microseconds = told.groups()
    return 0, int(seconds), -1 if microseconds is None else int(microseconds), int(pid or 0), base


def sort_plain(names: list[str]) -> None:
    """Sort plain names by `rank_of`.

    If all times have the same number of digits, names are compared as text, and by rank only within one second.  Ranks
    cost much more than text, which matters in mailboxes of 100,000 messages.
    """
    if len(names) < 2:
        return
    if len({name.index(".") for name in names}) > 1:
        names.sort(key=rank_of)
        return
    names.sort()
    digits = names[0].index(".")
    seconds = [name[:digits] for name in names]
    if len(set(seconds)) == len(names):
        return
    start = 0
    for end, (second, following) in enumerate(pairwise([*seconds, ""]), 1):
        if second != following:
            if end - start > 1:
                names[start:end] = sorted(names[start:end], key=_rank_in_second)
            start = end


def _rank_in_second(name: str) -> tuple[int, int, str]:
    """Return what `rank_of` has after the seconds, for a plain name."""
    pid, _, microseconds = name[name.index(".") + 1:name.index("_")].partition(".M")
    return int(microseconds) if 0 < len(microseconds) <= 6 else -1, int(pid), name


def _hashed(text: str) -> str:
    """Return 64 hexadecimal digits that stand for any text."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()
