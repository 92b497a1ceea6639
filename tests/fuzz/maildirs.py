"""Targets: the lists of other servers in their Maildirs.  Each raises for what must not happen, and only then."""

import contextlib
import os

from popular.tools.pmigrate.sources.courier import courier_uids
from popular.tools.pmigrate.sources.dovecot import dovecot_uids
from popular.tools.pmigrate.sources.remembered import Remembered
from popular.tools.pmigrate.sources.source import SourceError

_NAMES = ("1.a", "2.b,S=5", "3.c")


def dovecot_list(data: bytes) -> None:
    """A format of UIDLs and a dovecot-uidlist: what it tells is of the right kind, or SourceError."""
    form, _, text = os.fsdecode(data).partition("\n")
    with contextlib.suppress(SourceError):
        _check(dovecot_uids(text, _NAMES, lambda: form))


def courier_list(data: bytes) -> None:
    """A courierpop3dsizelist: the same."""
    with contextlib.suppress(SourceError):
        _check(courier_uids(os.fsdecode(data)))


def _check(found: Remembered) -> None:
    assert all(name and ":" not in name and "\n" not in name + uid for name, uid in found.uids.items())
    assert all(size >= 0 for size in found.sizes.values())
