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
SLOW = {"test_package.py": 90, "test_database_contract.py": 90, "test_smoke.py": 60, "test_upgrade.py": 60,
        "test_moving_pages.py": 60, "test_database_faults.py": 60, "test_demo.py": 45, "test_init_scripts.py": 45,
        "test_testssl.py": 40, "test_readme.py": 30, "test_upgrade_load.py": 30, "test_tls_inspect.py": 30,
        "test_clients.py": 30, "test_limping_backends.py": 30, "test_sasl_clients.py": 30,
        "test_pmigrate_maildirs.py": 30, "test_crash.py": 20, "test_statefile_load.py": 20, "test_pclean.py": 20,
        "test_tls.py": 20}


class Share:
    """The plugin of one run; as no file is imported before the run has taken it, each is imported once."""

    def __init__(self, folder: Path) -> None:
        """The folder is that of all runs."""
        self.folder = folder
        self._files: list[pytest.Module] = []
        self._is_listing = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Put a file on the list instead of importing it."""
        if not (self._is_listing and isinstance(collector, pytest.Module)):
            return None
        if collector.path.name != LAST:
            self._files.append(collector)
        return pytest.CollectReport(collector.nodeid, "passed", None, [])

    def run(self, session: pytest.Session) -> None:
        """Run what no other run has taken, until nothing is left; raises what ends a session early."""
        self._is_listing = False
        rest = Rest.from_parent(session, name="rest")
        for name, files in portions(self._files):
            if not take(self.folder / name):
                continue
            items = tests_in(session, files)
            session.testscollected += len(items)
            for item, following in zip(items, [*items[1:], rest]):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)


class Rest(pytest.Item):
    """What follows the last test of a file, in no file: the fixtures of the session stay."""

    def runtest(self) -> None:
        """Be no test."""
        raise NotImplementedError


def portions(files: Iterable[pytest.Module]) -> list[tuple[str, list[pytest.Module]]]:
    """Return each file, or files that belong together, with a name for them; the slowest first."""
    found: dict[str, list[pytest.Module]] = {}
    for file in files:
        name = "in the checkout" if file.path.name in IN_CHECKOUT else str(file.path).replace(os.sep, "+")
        found.setdefault(name, []).append(file)
    return sorted(found.items(), key=lambda one: -max(SLOW.get(file.path.name, 0) for file in one[1]))


def tests_in(session: pytest.Session, files: Iterable[pytest.Module]) -> list[pytest.Item]:
    """Return the tests of some files, as pytest would have collected them."""
    items = [item for file in files for item in session.genitems(file)]
    session.config.hook.pytest_collection_modifyitems(session=session, config=session.config, items=items)
    return items


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
