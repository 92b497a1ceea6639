"""Kinds of values that name networks; otherwise as kinds.py."""

from dataclasses import dataclass
from typing import ClassVar

from popular.networks import Networks, PrefixLengths, words_of


@dataclass(frozen=True, slots=True)
class NetworkList:
    """Networks, separated by commas or blanks."""

    name: ClassVar[str] = "Networks"
    wanted: ClassVar[str] = "a list of networks such as 192.0.2.0/24, 2001:db8::/32"

    def parse(self, text: str) -> Networks:
        """Read `ADDRESS/LENGTH, ADDRESS, …`; the word `none` is the empty list."""
        words = [] if text.strip() == "none" else words_of(text)
        try:
            return Networks.read(words, ", ".join(words))
        except ValueError:
            raise ValueError(self.wanted) from None

    def show(self, value: Networks) -> str:
        """Return the networks separated by a comma and a space."""
        return value.text or "none"


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Two lengths of prefixes, for IPv4 and for IPv6."""

    name: ClassVar[str] = "Prefixes"
    wanted: ClassVar[str] = "a length from 1 to 32 for IPv4 and one from 1 to 128 for IPv6, such as 24 48"

    def parse(self, text: str) -> PrefixLengths:
        """Read `IPV4 IPV6`."""
        words = words_of(text)
        if len(words) != 2 or not all(word.isascii() and word.isdigit() and len(word) <= 3 for word in words):
            raise ValueError(self.wanted)
        ipv4, ipv6 = map(int, words)
        if not (1 <= ipv4 <= 32 and 1 <= ipv6 <= 128):
            raise ValueError(self.wanted)
        return PrefixLengths(ipv4, ipv6)

    def show(self, value: PrefixLengths) -> str:
        """Return both numbers."""
        return f"{value.ipv4} {value.ipv6}"
