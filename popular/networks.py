"""Networks of client addresses: lists that settings name, and the part of an address by which clients are counted.

Used by the settings, and in children, for each connection: so an address is a number here, and a list is searched
by one look into a set for each length of prefix that it has.  Pure; nothing here asks the DNS.
"""

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MAX_NETWORKS = 200_000    # in one list

_SEPARATORS = re.compile(r"[,\s]+")


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """The address of a client, without a zone."""

    bits: int      # 32 or 128
    number: int

    @classmethod
    def of(cls, host: str) -> "ClientAddress":
        """Return the number of a numeric address; raises ValueError for anything else."""
        address = host.partition("%")[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            octets = socket.inet_pton(family, address)
        except OSError:
            raise ValueError(f"not a numeric address: {host!r}") from None
        return cls(8 * len(octets), int.from_bytes(octets, "big"))

    def network(self, length: int) -> tuple[int, int, int]:
        """Return the network of `length` bits in which it is, as words of a key."""
        return self.bits, length, self.number >> self.bits - length


@dataclass(frozen=True, slots=True)
class Networks:
    """A set of networks, IPv4 and IPv6."""

    text: str = ""    # as it was written
    # By the bits of the family and of the prefix; empty: there is no network, and whoever asks often need not ask.
    numbers: Mapping[tuple[int, int], frozenset[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, words: Iterable[str], text: str = "") -> "Networks":
        """Return the set of `ADDRESS` and `ADDRESS/LENGTH`; raises ValueError with the word that is neither.

        Bits behind the length are ignored, as most programs do.
        """
        found: dict[tuple[int, int], set[int]] = {}
        for count, word in enumerate(words):
            if count >= MAX_NETWORKS:
                raise ValueError(f"more than {MAX_NETWORKS} networks")
            bits, length, number = _parse(word)
            found.setdefault((bits, length), set()).add(number)
        return cls(text, {key: frozenset(numbers) for key, numbers in found.items()})

    def __contains__(self, origin: ClientAddress) -> bool:
        for (bits, length), numbers in self.numbers.items():
            if bits == origin.bits and origin.number >> bits - length in numbers:
                return True
        return False

    def __or__(self, other: "Networks") -> "Networks":
        """Return the networks of both, without a text."""
        numbers = dict(self.numbers)
        for key, more in other.numbers.items():
            numbers[key] = numbers.get(key, frozenset()) | more
        return Networks(numbers=numbers)

    def __bool__(self) -> bool:
        return bool(self.numbers)


@dataclass(frozen=True, slots=True)
class PrefixLengths:
    """How many bits of an address name whoever is counted."""

    ipv4: int
    ipv6: int

    def key(self, origin: ClientAddress) -> tuple[int, int, int]:
        """Return the words of the key for all addresses that share these bits with `origin`."""
        length = self.ipv4 if origin.bits == 32 else self.ipv6
        return origin.bits, length, origin.number >> origin.bits - length


def words_of(text: str) -> list[str]:
    """Return the words of a list that is separated by commas or blanks."""
    return [word for word in _SEPARATORS.split(text) if word]


def file_words(lines: Iterable[str]) -> Iterator[str]:
    """Yield the words of a file of networks, in which `#` begins a comment."""
    for line in lines:
        yield from words_of(line.partition("#")[0])


def _parse(word: str) -> tuple[int, int, int]:
    """Return bits of the family, length and number of a network."""
    address, slash, length = word.partition("/")
    try:
        if "%" in address:
            raise ValueError
        origin = ClientAddress.of(address)
        if slash and not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= origin.bits):
            raise ValueError
    except ValueError:
        raise ValueError(f"{word[:60]!r} is not a network such as 192.0.2.0/24 or 2001:db8::/32") from None
    return origin.network(int(length) if slash else origin.bits)
