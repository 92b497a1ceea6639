"""Names of new messages (spec 9.1): what pdeliver needs of `store.filename`, which is slow to load.

Pure functions.  Nothing here raises.
"""

from collections.abc import Sequence

_PLAIN = r"/[0-9]{1,10}\.[0-9]{1,18}(?:\.M[0-9]{1,18})?_([0-9]{1,18})(?=/)"


def new_name(seconds: int, pid: int, size: int, microseconds: int | None = None) -> str:
    """Return a name for a message of `size` wire octets, delivered at the UNIX time `seconds` by `pid` (spec 9.1)."""
    further = "" if microseconds is None else f".M{microseconds:06d}"
    return f"{seconds}.{pid}{further}_{size}"


def base_of(name: str) -> str:
    """Return the part of a name that stays while its message is kept: up to the first `,` or `:`."""
    return name.partition(":")[0].partition(",")[0]


def plain_octets(names: Sequence[str]) -> int | None:
    """Return the sum of all sizes if all names are plain, else None.

    A plain name has our form, at most ten digits of time and nothing after the size; it is its own unique id.  One
    search over all names is much cheaper than a look at each, which matters in mailboxes of 100,000 messages.
    """
    import re    # not needed for each mail; `re` keeps the pattern

    told = re.findall(_PLAIN, f"/{'/'.join(names)}/")    # no name has a slash, so no match spans two
    return sum(map(int, told)) if len(told) == len(names) else None
