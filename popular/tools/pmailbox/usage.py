"""What mailboxes hold, for `pmailbox --usage`, and with `--user` how much of their quota that is.

Part of the tool pmailbox, loaded only with that option.
"""

import argparse
import os
import sys
from collections.abc import Iterable

from popular.errors import StoreError
from popular.pdm.api import Found
from popular.stderr import complain
from popular.store.mailbox import Mailbox
from popular.store.quota import Quota, usage_of
from popular.tools.pdeliver.user import Undeliverable, UserToFind, find_place


def print_usage(arguments: argparse.Namespace, names: Iterable[str]) -> int:
    """Print a line for each mailbox or, with `--user`, user; return the exit code."""
    code = os.EX_OK
    for name in names:
        try:
            line = _line_of_user(arguments, name) if arguments.user else _held(arguments.mailboxdir, name)
        except (StoreError, Undeliverable) as why:
            complain(f"pmailbox: {name!a}: {why}")
            code = os.EX_DATAERR
            continue
        sys.stdout.buffer.write(f"{line} {name}\n".encode("utf-8", "surrogateescape"))
    return code


def _held(root: str, name: str) -> str:
    """Return number and octets; raises StoreError."""
    usage = usage_of(Mailbox(root, name))
    return f"{usage.number} {usage.octets}"


def _line_of_user(arguments: argparse.Namespace, user: str) -> str:
    """Return the same of a user's mailbox, the percent of their quota, and this; raises StoreError and Undeliverable.
    """
    place: Found = find_place(UserToFind(arguments.config, user, arguments.namespace or "", arguments.backend))
    quota = Quota.of_mebibytes(place.quota or 0, place.maxnum or 0)
    usage = usage_of(Mailbox(arguments.mailboxdir, place.mailbox))
    percent = f"{quota.percent(usage)}%" if quota.is_set else "-"
    return f"{usage.number} {usage.octets} {percent} {place.quota or '-'} {place.maxnum or '-'}"
