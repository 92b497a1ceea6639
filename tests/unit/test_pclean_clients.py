"""What pclean does about the database of SMTP after POP."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.smtpafterpop.clients import Clients
from popular.tools.pclean import main as pclean

NOW = 1_700_000_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log will be."""
    return tmp_path / "log"


@pytest.fixture
def run(spool: Path, tmp_path: Path, log: Path, clients: Clients) -> Callable[..., int]:
    """A function that runs pclean at the time NOW."""
    conf = tmp_path / "pclean.conf"
    conf.write_text(f"[pclean]\nsmtpafterpopfile = {clients.path}\n")

    def call(*options: str) -> int:
        rights = ["-u", "root", "-g", "root"] if os.geteuid() == 0 else []
        return pclean.run(["-c", str(conf), "-m", str(spool), "-l", str(log), *rights, *options], lambda: float(NOW))
    return call


def lines(log: Path, name: str) -> list[str]:
    """Return the messages `name` in a log, from the level on."""
    return [line.split(" - ", 1)[1] for line in log.read_text().splitlines() if f" {name} " in line]


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    """A database of SMTP after POP in which one record is over."""
    clients = Clients(str(tmp_path / "clients.db"), 1.0)
    for address, until in (("192.0.2.1", NOW), ("192.0.2.2", NOW + 1)):
        clients.add(address, until)
    clients.close()
    return clients


@pytest.mark.parametrize("options", [["-v"], ["-n"]])
def test_records_of_clients_that_are_over_are_removed(run: Callable[..., int], log: Path, clients: Clients,
                                                      options: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*options) == 0
    is_dry = options == ["-n"]
    assert clients.count_expired(NOW) == is_dry
    assert clients.count_expired(NOW + 1) == 1 + is_dry
    clients.close()
    verb = "would remove" if is_dry else "removed"
    assert f"{clients.path}: {verb} 1 records of clients\n" in capfd.readouterr().out
    if not is_dry:
        assert lines(log, "clients_expired") == [f"INF 02fd clients_expired path='{clients.path}' records=1"]
        assert run() == 0
        assert len(lines(log, "clients_expired")) == 1, "there was nothing to do"


def test_a_database_of_clients_that_is_missing_is_not_made(run: Callable[..., int], clients: Clients) -> None:
    os.unlink(clients.path)
    assert run() == 0
    assert not os.path.exists(clients.path)


def test_a_database_of_clients_that_cannot_be_cleaned_is_1(
        run: Callable[..., int], spool: Path, log: Path, clients: Clients, capfd: pytest.CaptureFixture[str]) -> None:
    leftover = spool / "joe/tmp/1"
    for name in ("new", "cur", "tmp"):
        (spool / "joe" / name).mkdir(parents=True)
    leftover.touch()
    os.utime(leftover, (1, 1))
    Path(clients.path).write_bytes(b"something else\n" * 100)
    assert run() == 1
    assert not leftover.exists(), "mailboxes are cleaned nevertheless"
    assert lines(log, "clients_not_expired") == [
        f"ADM 02fe clients_not_expired path='{clients.path}' why='SQLite says: file is not a database'"]
    assert "file is not a database" in capfd.readouterr().err
