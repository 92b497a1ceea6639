"""Filters that the user types: which sessions are shown.

Part of the tool pstatus --top; pure.  An invalid filter raises ValueError, which says what is expected.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace

from popular.statefile.reader import Row
from popular.tools.pstatus.top.columns import packed_address
from popular.tools.pstatus.top.text import shown

Test = Callable[[Row], bool]

FILTERED = ("user", "client", "owner", "backend")    # as they are shown; `owner` is the vserv or server


@dataclass(frozen=True, slots=True)
class Filters:
    """What was typed; a session must pass all of them, and it passes every empty one."""

    user: str = ""       # in pserv the mailbox
    client: str = ""
    owner: str = ""
    backend: str = ""

    def with_one(self, kind: str, text: str) -> "Filters":
        """Return these filters with one changed; raises ValueError for an invalid one."""
        text = text.strip()
        found = replace(self, **{kind: text})
        found.tests()
        return found

    def tests(self) -> list[Test]:
        """Return what a row must pass; raises ValueError."""
        found: list[Test] = []
        if self.user:
            found.append(_text_test(self.user, lambda row: row.user))
        if self.client:
            found.append(_address_test(self.client))
        if self.owner:
            found.append(_text_test(self.owner, lambda row: row.owner))
        if self.backend:
            found.append(_text_test(self.backend, lambda row: row.backend))
        return found

    def told(self, owner: str, user: str) -> list[tuple[str, str]]:
        """Return names and texts of the filters that are set; the names are those of the columns."""
        names = {"user": user, "client": "client", "owner": owner, "backend": "backend"}
        return [(names[kind], text) for kind in FILTERED if (text := getattr(self, kind))]


def _text_test(text: str, of: Callable[[Row], str]) -> Test:
    """Return a test of a text as it is shown: `=TEXT` is the whole of it, others a part in upper or lower case."""
    if text.startswith("="):
        whole = text[1:]
        return lambda row: shown(of(row)) == whole
    part = text.casefold()
    return lambda row: part in shown(of(row)).casefold()


def _address_test(text: str) -> Test:
    """Return a test of a client: an address, a network as ADDRESS/BITS, or a part of an address and port."""
    if text.startswith("="):
        return lambda row: str(row.client) == text[1:]
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        if "/" in text:
            raise ValueError(f"{shown(text)} is not an address, ADDRESS/BITS, or a part of an address") from None
        return lambda row: row.client is not None and text.casefold() in str(row.client).casefold()
    wanted, size = network.network_address.packed, len(network.network_address.packed)
    shift = network.max_prefixlen - network.prefixlen
    number = int.from_bytes(wanted) >> shift

    def is_in(row: Row) -> bool:
        packed = packed_address(row.client.host) if row.client is not None else b""
        return len(packed) == size and int.from_bytes(packed) >> shift == number

    return is_in
