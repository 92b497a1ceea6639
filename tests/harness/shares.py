"""Runs of pytest side by side that share one set of tests: each takes the next file that no other has taken.

    pytest --share=FOLDER                               several times at once, with the same empty folder
    pytest --shared=FOLDER tests/meta/test_catalogue.py    when they are over

Most tests wait most of the time, so that three runs on two cores take half as long as one.  They are processes of
their own, without a controller and its threads, because many tests fork.  `LAST`, which asks what all other tests
did, is left for the end, and is told by what the runs noted in the folder.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.harness.catalogue import Seen

LAST = "test_catalogue.py"

# Files whose tests all build in the checkout: one run takes them, and does them one after the other.
IN_CHECKOUT = frozenset(("test_install.py", "test_package.py", "test_packaging.py"))

# Files that take longest, which are begun first: seconds on two cores, with nothing else to do.
SLOW = {"test_package.py": 90, "test_database_contract.py": 90, "test_smoke.py": 90, "test_demo.py": 90,
        "test_upgrade.py": 60, "test_database_faults.py": 60, "test_init_scripts.py": 60, "test_testssl.py": 60,
        "test_readme.py": 30, "test_upgrade_load.py": 30, "test_tls_inspect.py": 30, "test_pclean.py": 30,
        "test_statefile_load.py": 30, "test_clients.py": 30, "test_crash.py": 30, "test_soak.py": 30}


def portions(items: Iterable[pytest.Item]) -> list[tuple[str, list[pytest.Item]]]:
    """Return the tests of each file, or of files that belong together, with a name for them; the slowest first."""
    found: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = "in the checkout" if item.path.name in IN_CHECKOUT else str(item.path).replace(os.sep, "+")
        found.setdefault(name, []).append(item)
    return sorted(found.items(), key=lambda one: -max(SLOW.get(item.path.name, 0) for item in one[1]))


def run_share(session: pytest.Session, folder: Path) -> None:
    """Run what no other run has taken, until nothing is left; raises what ends a session early."""
    for name, items in portions(session.items):
        if not take(folder / name):
            continue
        for item, following in zip(items, [*items[1:], None]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)


def take(mark: Path) -> bool:
    """Tell whether nobody made this file before."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def note(seen: Seen, folder: Path) -> None:
    """Write down what a run saw."""
    lines = [f"{number} {name}\n" for number, name in sorted(seen.messages)]
    (folder / f"{os.getpid()}.seen").write_text("".join(lines))


def noted(folder: Path) -> Seen:
    """Return what all runs saw."""
    seen = Seen()
    for path in folder.glob("*.seen"):
        for line in path.read_text().splitlines():
            number, _, name = line.partition(" ")
            seen.messages.add((int(number), name))
    return seen
