"""Maildirs of other servers as sources of pmigrate.

Part of pmigrate.
"""

from popular.tools.pmigrate.source import Source, SourceError


def open_maildir(path: str) -> Source:
    """Return the source for a Maildir, whichever server made it; raises SourceError."""
    raise SourceError(f"{path}: Maildirs are not supported yet")
