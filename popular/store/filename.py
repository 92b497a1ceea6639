"""Names of message files: ours (spec 9.1) and those that other Maildir programs give.

Ours are `TIME.PID_SIZE`, for one `945113196.14341_1067`, or with microseconds, `TIME.PID.Mnnnnnn_SIZE`, where
the short form might already have named another message.  SIZE is the size on the wire, so nobody need stat.
In any other name `,W=SIZE` is the size on the wire; without it the size is not known.  What follows the first `,` or
`:` may change while a message is kept (sizes, flags); what stands before it, the base, never does.

Pure functions, used in the children of pserv, in pdeliver and in pclean.  Nothing here raises.
"""

import hashlib
import os
import re
from collections.abc import Sequence

MAX_UID = 70      # octets of a unique id, each of 0x21-0x7E (RFC 1939 section 7)
MAX_NAME = 255    # octets of a file name, as of all common file systems

# As strict as can be: `1075238321.16373_1.host` is procmail's, and its 1 is no size.
_OURS = re.compile(r"([0-9]{1,18}\.[0-9]{1,18})(?:\.M[0-9]{1,18})?_([0-9]{1,18})(?![^,:])", re.ASCII)
_PLAIN = re.compile(r"/[0-9]{1,10}\.[0-9]{1,18}(?:\.M[0-9]{1,18})?_([0-9]{1,18})(?=/)", re.ASCII)
_WIRE_SIZE = re.compile(r"[^:]*,W=([0-9]{1,18})(?![^,:])", re.ASCII)
_TIME = re.compile(r"([0-9]{1,18})\.", re.ASCII)
_UID = re.compile(r"[\x21-\x7e]{1,70}")

Rank = tuple[int, int, str]


def new_name(seconds: int, pid: int, size: int, microseconds: int | None = None) -> str:
    """Return a name for a message of `size` wire octets, delivered at the UNIX time `seconds` by `pid` (spec 9.1)."""
    further = "" if microseconds is None else f".M{microseconds:06d}"
    return f"{seconds}.{pid}{further}_{size}"


def base_of(name: str) -> str:
    """Return the part of a name that stays while its message is kept: up to the first `,` or `:`."""
    return name.partition(":")[0].partition(",")[0]


def is_ours(name: str) -> bool:
    """Tell whether a name has our form, which promises a file with CRLF line ends, sent as it is."""
    return _OURS.match(name) is not None


def size_of(name: str) -> int | None:
    """Return the wire size that a name tells, or None: then the file must be read once."""
    told = _OURS.match(name)
    if told is not None:
        return int(told[2])
    told = _WIRE_SIZE.match(name)
    return int(told[1]) if told is not None else None


def plain_octets(names: Sequence[str]) -> int | None:
    """Return the sum of all sizes if all names are plain: of our form, with at most ten digits of time, nothing behind.

    Plain names are their unique ids as they are.  One search over all names is much cheaper than a look at each, which
    mailboxes of 100,000 messages would feel.
    """
    told = _PLAIN.findall(f"/{'/'.join(names)}/")    # no file name has a slash, so no match goes over a border
    return sum(map(int, told)) if len(told) == len(names) else None


def time_of(name: str) -> int | None:
    """Return the UNIX time of delivery that a name of our form tells, or None."""
    ours = _OURS.match(name)
    return int(ours[1].partition(".")[0]) if ours is not None else None


def uid_of(name: str) -> str:
    """Return the unique id of the message with this name: its base, or a hash of that where the base is no id.

    The same for all names that a message has in its life; two messages with one base are told apart by `twin_base`.
    """
    base = base_of(name)
    return base if _UID.fullmatch(base) else _hashed(base)


def twin_base(name: str, inode: int) -> str:
    """Return another base for a message whose base is taken: a usable unique id, and it keeps the size of our form."""
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


def with_wire_size(name: str, size: int) -> str:
    """Return the name with its wire size in it, before any flags: for a file whose size had to be counted.

    A name that has no room for it stays as it is.
    """
    kept, colon, flags = name.partition(":")
    sized = f"{kept},W={size}{colon}{flags}"
    return sized if len(os.fsencode(sized)) <= MAX_NAME else name


def rank_of(name: str) -> Rank:
    """Return the sort key of a name: by time of delivery, then by base; names without a time come last."""
    told = _TIME.match(name)
    base = base_of(name)
    return (0, int(told.group(1)), base) if told is not None else (1, 0, base)


def sort_plain(names: list[str]) -> None:
    """Sort plain names by `rank_of`: where all times have as many digits, that is the order of text."""
    is_text_order = len({name.index(".") for name in names}) < 2
    names.sort(key=None if is_text_order else rank_of)


def _hashed(text: str) -> str:
    """Return 64 hexadecimal digits that stand for any text."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()
