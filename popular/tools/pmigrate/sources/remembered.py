"""What another server remembers about the messages of a Maildir: the same facts from the files of each kind of server.

Part of pmigrate.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of messages, by their bare names."""

    uids: dict[str, str]                                   # UIDLs in the order of POP3
    sizes: dict[str, int] = field(default_factory=dict)    # octets on the wire, where they are known


def bare_name(name: str) -> str:
    """Return the part of a file's name that other Maildir programs know a message by: up to the first colon."""
    return name.partition(":")[0]
