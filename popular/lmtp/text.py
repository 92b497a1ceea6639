"""The text that follows DATA: where it ends, and its dots undone (RFC 5321).

Used in the children of plmtpd.  Pure.

Only CRLF, a dot and CRLF end the text, and only CRLF is the end of a line.  A lone CR or LF with a dot is part of the
text: what one server takes for the end and another does not would let a sender smuggle in mail of others.
"""

_END = b"\r\n.\r\n"


class DotText:
    """The text of one message, which comes in blocks of any length."""

    def __init__(self) -> None:
        self._held = b"\r\n"    # the end of what came, as far as it must wait; the text begins at the start of a line
        self._skip = 2          # octets of it that are not the text's

    def feed(self, block: bytes) -> tuple[bytes, bytes | None]:
        """Return what is ready of the text, and what follows its end; None while the end has not come."""
        text = self._held + block
        parts: list[bytes] = []
        start = self._skip
        place = 0
        rest: bytes | None = None
        while (found := text.find(b"\r\n.", place)) >= 0:
            behind = text[found + 3:found + 5]
            if behind == b"\r\n":
                parts.append(text[start:found + 2])
                rest = text[found + 5:]
                break
            if len(behind) < 2 and b"\r\n".startswith(behind):    # too short to tell
                break
            parts.append(text[start:found + 2])
            start = place = found + 3
        if rest is not None:
            return b"".join(parts), rest
        cut = found if found >= 0 else len(text) - _waiting(text, place)
        parts.append(text[start:cut])
        self._held = text[cut:]
        self._skip = max(0, start - cut)
        return b"".join(parts), None


def _waiting(text: bytes, place: int) -> int:
    """Return how many octets at the end, behind `place`, may be the start of a line with a dot."""
    if len(text) - place >= 2 and text.endswith(b"\r\n"):
        return 2
    return 1 if len(text) > place and text.endswith(b"\r") else 0
