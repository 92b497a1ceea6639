r"""The kind `Lines`: several lines of text, written on one line with `\n` between them.

Octets that are not printable ASCII are written as `\xNN`, a backslash as `\\`.  Lean; kinds.py defines a kind.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

_TOKEN = re.compile(r"\\n|\\\\|\\x[0-9a-f]{2}|[ -\[\]-~]+", re.ASCII)
_SHOWN = tuple(r"\\" if octet == 0x5c else chr(octet) if 0x20 <= octet <= 0x7e else rf"\x{octet:02x}"
               for octet in range(256))
_FORBIDDEN = (b"\0", b"\n")


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of text as a tuple; octets that are not UTF-8 become surrogates."""

    name: ClassVar[str] = "Lines"
    limit: int    # octets in all, two for each line end

    @property
    def wanted(self) -> str:
        """The form and the limit in words."""
        return (rf"text with lines separated by \n, at most {self.limit} octets, \\ for a backslash and \xNN for other "
                "octets but 00")

    def parse(self, text: str) -> tuple[str, ...]:
        """Read lines; a separator after the last one is optional."""
        lines = [bytearray()]
        position = 0
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None or position > 4 * self.limit:
                raise ValueError(self.wanted)
            position = token.end()
            if token[0] == "\\n":
                lines.append(bytearray())
            else:
                lines[-1] += _octets(token[0])
        if not lines[-1]:
            lines.pop()
        if sum(len(line) + 2 for line in lines) > self.limit:
            raise ValueError(self.wanted)
        if any(bad in line for bad in _FORBIDDEN for line in lines):
            raise ValueError(self.wanted)
        return tuple(line.decode("utf-8", "surrogateescape") for line in lines)

    def show(self, value: tuple[str, ...]) -> str:
        """Return the lines separated by `\\n`; an empty last line ends in a separator, too."""
        text = "".join(f"{_escaped(line)}\\n" for line in value)
        return text.removesuffix("\\n") if value and value[-1] else text


def _octets(token: str) -> bytes:
    if token == "\\\\":
        return b"\\"
    return bytes((int(token[2:], 16),)) if token.startswith("\\") else token.encode("ascii")


def _escaped(line: str) -> str:
    return "".join(_SHOWN[octet] for octet in line.encode("utf-8", "surrogateescape"))
