"""Preparing passwords, so that both sides mean the same octets (SASLprep, RFC 4013).

Runs wherever SCRAM does.  Raises nothing.
"""


def prepared(password: bytes) -> bytes:
    """Return a password with its characters normalised and odd spaces as spaces."""
    if password.isascii():
        return password
    import stringprep    # here and below, because few passwords need them
    import unicodedata

    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    mapped = "".join(" " if stringprep.in_table_c12(sign) else sign for sign in text
                     if not stringprep.in_table_b1(sign))
    return unicodedata.normalize("NFKC", mapped).encode()
