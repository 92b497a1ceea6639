"""The UIDLs that Courier gives to the messages of a Maildir, from its file `courierpop3dsizelist`.

Part of pmigrate.  The first line is `/VERSION NEXT UIDV`, each further one

    NAME SIZE N:UIDV:UTF8    in version 3, of Courier 1.0 and later
    NAME SIZE N:UIDV         in version 2
    NAME SIZE N              in version 1; lines of versions 2 and 3 may look so, too
    NAME SIZE                in a file without the first line, of before 2003

The UIDL is `UIDn-UIDV`, without UIDV `UIDn`, and without N the name.  Raises SourceError.
"""

import os
import re

from popular.tools.pmigrate.sources.remembered import Remembered, bare_name
from popular.tools.pmigrate.sources.source import SourceError

COURIER_LIST = "courierpop3dsizelist"

_HEAD = re.compile(r"/([0-9]{1,9}) [0-9]{1,20}(?: [0-9]{1,20})?", re.ASCII)
_LINE = re.compile(r"([^:].*) ([0-9]{1,18}) ([0-9]{1,20})(?::([0-9]{1,20}))?(?::[0-9]+)?", re.ASCII)
_LINE_0 = re.compile(r"([^:].*) ([0-9]{1,18})()()", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_PLAIN = re.compile(rb"[^!#-&(-*,-~]")    # all that Courier writes in another way


def courier_uids(text: str) -> Remembered:
    """Return what Courier remembers by the text of its list; lines of another form are ignored, as Courier does."""
    lines = text.split("\n")[:-1]
    form = _LINE_0
    if lines and lines[0].startswith("/"):
        head = _HEAD.fullmatch(lines.pop(0))
        if head is None or int(head[1]) not in (1, 2, 3):
            raise SourceError(f"{COURIER_LIST}: line 1: not version 1, 2 or 3")
        form = _LINE
    found = sorted((line for line in map(form.fullmatch, lines) if line is not None), key=lambda line: _rank(line[1]))
    uids, sizes = {}, {}
    for line in found:
        key = bare_name(line[1])
        uids[key] = _uid(key, int(line[3] or 0), int(line[4] or 0))
        sizes[key] = int(line[2])
    return Remembered(uids, sizes)


def _uid(key: str, number: int, validity: int) -> str:
    if number:
        return f"UID{number}-{validity}" if validity else f"UID{number}"
    return _PLAIN.sub(lambda octet: b"+%02X" % octet[0][0], os.fsencode(key)).decode("ascii")


def _rank(name: str) -> tuple[int, bytes]:
    """Return the sort key of a name: its time, then its octets up to the colon, as signed numbers."""
    time = _NUMBER.match(name)
    text = os.fsencode(f"{bare_name(name)}:" if ":" in name else name)
    return int(time[0]) if time is not None else 0, bytes(octet ^ 0x80 for octet in text)
