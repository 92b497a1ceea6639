"""Capability lists: files in capadir that the administrator wrote (spec 9.2).

Read by the starter (to find mistakes) and by the master (once per configuration), never by a child.
"""

import os

from popular.errors import ConfigError, Mistake
from popular.pop3.capability import MAXLEN_CAPA, parse_list


def read_list(capadir: str, name: str) -> tuple[str, ...]:
    """Return the lines of the list `name`; raises ConfigError when it cannot be read or used."""
    path = os.path.join(capadir, name)
    try:
        with open(path, "rb", buffering=0) as file:
            raw = file.read(MAXLEN_CAPA + 1)
    except OSError as why:
        raise ConfigError([Mistake(path, why.strerror or "an error", "a capability list that can be read")]) from why
    try:
        return parse_list(raw.decode("utf-8", "surrogateescape"))
    except ValueError as wanted:
        raise ConfigError([Mistake(path, "a list that is no use", str(wanted))]) from wanted
