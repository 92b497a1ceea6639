"""The mailboxes that tests and transcripts name, and the plainest rendering of a message to compare with.

A message is what lies on disk: CRLF line ends, no stuffing (spec 9.1).
"""

BLOCK = 65536      # where readers of files are likely to have their borders


def _mail(subject: str, *body: bytes) -> bytes:
    head = (b"From: joe@example.org", b"Subject: " + subject.encode("ascii"), b"")
    return b"".join(line + b"\r\n" for line in (*head, *body))


def _border(size: int) -> bytes:
    """A message with a dot at the start of the line that begins `size` octets behind the start."""
    head = _mail(f"dot at {size}")
    return head + b"x" * (size - len(head) - 2) + b"\r\n.dot\r\n.\r\n..\r\nend\r\n"


MAILBOXES: dict[str, tuple[bytes, ...]] = {
    "empty": (),
    "one": (_mail("one", b"first"),),
    "two": (_mail("one", b"first"), _mail("two", b"second", b"line 2", b"line 3")),
    "three": (_mail("one", b"first"), _mail("two", b"second"), _mail("three", b"third")),
    "dots": (b".starts: with a dot\r\n\r\n.\r\n..\r\n.x\r\nx.\r\n", b".", b"..\r\n.\r\n"),
    "borders": tuple(_border(size + shift) for size in (4096, 8192, BLOCK, 4 * BLOCK) for shift in (-1, 0, 1)),
    "unended": (_mail("no line end", b"first")[:-2], _mail("half of one", b"first")[:-1]),
    "nul": (_mail("nul", b"a\0b", b"\0"),),
    "eightbit": (_mail("8-bit", bytes(range(0x80, 0x100))),),
    "long": (_mail("long line", b"x" * 1048576, b"." * 1048576, b"end"),),
    "header": (b"Subject: no body\r\n", b"Subject: no body\r\n\r\n", b"\r\nno header\r\n"),
    "nothing": (b"",),
}


def naive_stuffing(message: bytes, body_lines: int | None = None) -> bytes:
    """Return a message as RETR or TOP must send it, dots doubled, with the final one; no thought of speed."""
    if message and not message.endswith(b"\r\n"):
        message = message + b"\r\n"
    lines = message.split(b"\r\n")[:-1]
    if body_lines is not None and b"" in lines:
        lines = lines[:lines.index(b"") + 1 + body_lines]
    return b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines) + b".\r\n"
