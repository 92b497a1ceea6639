"""The message catalogue as a whole: every `messages.py` of every program (spec 5.2)."""

import importlib
import pkgutil
import re
from types import ModuleType

import pytest

import popular
from popular.log.message import LEVELS, Message

# Numbers and names that the original's documents state (spec 5.2), and their levels where stated.
ORIGINALS = {
    0x0001: ("start", "INF"),
    0x0004: ("left_main_loop", "BUG"),
    0x0005: ("shutdown_server", "INF"),
    0x0006: ("dir_access_failed", "ADM"),
    0x0007: ("out_of_memory", "SOS"),
    0x0008: ("name_too_long", "ADM"),
    0x0009: ("stat_failed", "ADM"),
    0x0035: ("null_byte_in_input", "ADM"),
    0x0078: ("shutdown", "INF"),
    0x0133: ("got_term_signal", "INF"),
    0x0170: ("session_state", None),
    0x0172: ("load_state", None),
}

# Which numbers each owner may take, beside the originals.
RANGES = {
    "popular.proc.messages": range(0x0200, 0x0240),    # shared with the daemons' skeleton
    "popular.daemon.messages": range(0x0200, 0x0240),
    "popular.pproxy.messages": (*range(0x0240, 0x0280), *range(0x0320, 0x0330)),
    "popular.pserv.messages": range(0x0280, 0x02a0),
    "popular.pcheckd.messages": range(0x02a0, 0x02b0),
    "popular.tools.pdeliver.messages": range(0x02b0, 0x02b7),
    "popular.store.delivery.messages": range(0x02b7, 0x02c0),
    "popular.pdm.messages": (0x0260, *range(0x02c0, 0x02e0)),
    "popular.ringd.messages": range(0x02e0, 0x02f0),
    "popular.tools.pclean.messages": range(0x02f0, 0x0300),
    "popular.plmtpd.messages": (*range(0x0300, 0x0320), *range(0x0330, 0x0340)),
}

# Numbers of messages that are no longer sent.  They are never used again.
RETIRED: frozenset[int] = frozenset()


def catalogues() -> list[ModuleType]:
    """Return every module of rows there is."""
    names = [module.name for module in pkgutil.walk_packages(popular.__path__, "popular.")]
    return [importlib.import_module(name) for name in names if name.endswith("messages")]


def rows() -> list[tuple[str, str, Message]]:
    """Return owner, constant and row of every message; a row taken over from another owner counts there only."""
    found: list[tuple[str, str, Message]] = []
    for module in catalogues():
        for constant, row in vars(module).items():
            if isinstance(row, Message) and not any(row is known for _, _, known in found):
                found.append((module.__name__, constant, row))
    return found


ROWS = [pytest.param(*row, id=f"{row[0].removeprefix('popular.')}.{row[1]}") for row in rows()]


def test_there_are_messages() -> None:
    assert {module.__name__ for module in catalogues()} >= {"popular.daemon.messages", "popular.pproxy.messages"}
    assert len(ROWS) > 20


@pytest.mark.parametrize(("owner", "constant", "row"), ROWS)
def test_each_row_is_well_formed(owner: str, constant: str, row: Message) -> None:
    assert row.level in LEVELS and row.level != "DBG"
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", row.name)
    fields = row.fields.split()
    assert row.fields == " ".join(fields), "fields are separated by one space"
    assert len(set(fields)) == len(fields), "a field stands twice"
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in fields)
    assert not {"password", "secret", "passwd"} & set(fields), "passwords have no field"
    assert re.search(r"[.:;] .*\.$", row.help), "help says what it means, and what to do (it may be: Nothing to do.)"
    assert constant.isupper()


@pytest.mark.parametrize(("owner", "constant", "row"), ROWS)
def test_spec_5_2_originals_keep_their_numbers(owner: str, constant: str, row: Message) -> None:
    by_name = {name: number for number, (name, _) in ORIGINALS.items()}
    if row.number in ORIGINALS:
        name, level = ORIGINALS[row.number]
        assert row.name == name
        assert level in (None, row.level)
    else:
        assert row.name not in by_name, f"the original calls {by_name.get(row.name, 0):04x} so"


@pytest.mark.parametrize(("owner", "constant", "row"), ROWS)
def test_numbers_lie_in_their_owners_range(owner: str, constant: str, row: Message) -> None:
    assert owner in RANGES, "a new owner needs a range of its own here"
    assert row.number in RANGES[owner] or row.number in ORIGINALS


@pytest.mark.parametrize("what", ["number", "name"])
def test_spec_5_1_numbers_and_names_are_unique(what: str) -> None:
    seen: dict[object, str] = {}
    for owner, constant, row in rows():
        key = getattr(row, what)
        assert key not in seen, f"{owner}.{constant} takes {what} {key!r} of {seen.get(key)}"
        seen[key] = f"{owner}.{constant}"


def test_spec_5_1_retired_numbers_are_never_reused() -> None:
    assert not RETIRED & {row.number for _, _, row in rows()}


def test_null_byte_has_the_originals_fields() -> None:
    """The one call whose parameters are known (spec 5.1)."""
    fields = {row.fields for _, _, row in rows() if row.number == 0x0035}
    assert fields <= {"ctx len data"}
