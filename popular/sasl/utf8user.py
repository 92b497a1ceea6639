"""Names and passwords in USER and PASS that are UTF-8 (RFC 6856, by SASLprep, RFC 4013).

Loaded in the master where a virtual server has `utf8user`, used in the children of pproxy.
"""

import stringprep

from popular.sasl.saslprep import prepared

_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9)


def prepared_strictly(octets: bytes) -> bytes:
    """Return the octets in the one form that counts; raises ValueError for what is not UTF-8 or may not be used."""
    octets.decode()
    octets = prepared(octets)
    text = octets.decode()
    if any(is_prohibited(sign) for sign in text for is_prohibited in _PROHIBITED):
        raise ValueError("a character that may not be used")
    if any(map(stringprep.in_table_d1, text)) and not (
            stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
            and not any(map(stringprep.in_table_d2, text))):
        raise ValueError("both directions of writing")
    return octets
