"""The database of SMTP after POP, and what the recorder spares it."""

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from popular.log.writer import Log
from popular.pproxy import recorder as recording
from popular.pproxy.recorder import SLOTS, Notebook, Recorder
from popular.smtpafterpop.clients import PORTION, Clients, ClientsError

LIFETIME = 100.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database is to be."""
    return tmp_path / "clients.db"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A log, whose descriptor is closed when the test is over."""
    return Log.open("pproxy", str(tmp_path / "log"))


def records(file: Path) -> Mapping[str, int]:
    with closing(sqlite3.connect(file)) as database:
        return dict(database.execute("SELECT address, until FROM clients"))


def with_clients(file: Path, act: Callable[[Clients], object], patience: float = 0.0) -> object:
    with closing(Clients(str(file), patience)) as clients:
        return act(clients)


def test_a_record_is_extended_and_never_shortened(file: Path) -> None:
    with closing(Clients(str(file), 0.0)) as clients:
        for until in (1000, 3000, 2000):
            clients.add("192.0.2.1", until)
        clients.add("2001:db8::1", 1500)
    assert records(file) == {"192.0.2.1": 3000, "2001:db8::1": 1500}


def test_what_is_over_is_removed_and_nothing_else(file: Path) -> None:
    with closing(Clients(str(file), 0.0)) as clients:
        for address, until in (("192.0.2.1", 999), ("192.0.2.2", 1000), ("192.0.2.3", 1001)):
            clients.add(address, until)
        assert clients.count_expired(1000) == 2
        assert clients.expire(1000) == 2
        assert clients.expire(1000) == 0
    assert records(file) == {"192.0.2.3": 1001}


def test_many_are_removed_in_portions(file: Path) -> None:
    number = 2 * PORTION + 1
    with_clients(file, Clients.prepare)
    with closing(sqlite3.connect(file)) as database, database:
        database.executemany("INSERT INTO clients VALUES (?, 1)", ((str(each),) for each in range(number)))
    assert with_clients(file, lambda clients: clients.expire(1)) == number
    assert records(file) == {}


def test_a_client_who_comes_back_while_it_is_cleaned_stays(file: Path) -> None:
    """Between finding what is over and removing it, others write."""
    with closing(Clients(str(file), 0.0)) as cleaner, closing(Clients(str(file), 0.0)) as writer:
        writer.add("192.0.2.1", 10)
        database = cleaner._connection()
        rows = database.execute("SELECT address FROM clients WHERE until <= 10").fetchall()
        writer.add("192.0.2.1", 20)
        assert rows == [("192.0.2.1",)]
        assert cleaner.expire(10) == 0
    assert records(file) == {"192.0.2.1": 20}


def test_its_readers_may_write_beside_it(file: Path) -> None:
    before = os.umask(0o077)
    try:
        with closing(Clients(str(file), 0.0)) as clients:
            clients.add("192.0.2.1", 10)
            modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"clients.db": 0o660, "clients.db-wal": 0o660, "clients.db-shm": 0o660}


def test_a_file_without_anything_in_it_is_none(file: Path) -> None:
    """Whoever reads a database that is missing may leave such a one."""
    file.touch()
    assert not with_clients(file, Clients.is_there)
    with_clients(file, lambda clients: clients.add("192.0.2.1", 10))
    assert records(file) == {"192.0.2.1": 10}


def test_what_a_deleted_database_leaves_is_not_taken_for_the_new_ones(file: Path) -> None:
    with closing(Clients(str(file), 0.0)) as old:
        old.add("192.0.2.1", 10)
        file.unlink()
        with_clients(file, lambda clients: clients.add("192.0.2.2", 10))
        assert records(file) == {"192.0.2.2": 10}
        old.add("192.0.2.3", 10)    # sees that the file is another one
    assert records(file) == {"192.0.2.2": 10, "192.0.2.3": 10}


@pytest.mark.parametrize(("make", "why"), [
    pytest.param(lambda file: file.write_bytes(b"no database at all\n" * 100), "SQLite says: file is not a database",
                 id="something else"),
    pytest.param(lambda file: file.parent.rmdir(), "No such file or directory", id="no folder"),
    pytest.param(lambda file: (file.mkdir(), (file / "x").touch()), "SQLite says: unable to open database file",
                 id="a folder"),
])
def test_errors_say_why(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    file = tmp_path / "folder/clients.db"
    file.parent.mkdir()
    make(file)
    with closing(Clients(str(file), 0.0)) as clients, pytest.raises(ClientsError, match=why):
        clients.add("192.0.2.1", 10)
    assert [path.name for path in file.parent.glob("*.db?*")] == []


def test_a_lock_is_an_error_and_the_next_try_works(file: Path) -> None:
    with closing(Clients(str(file), 0.0)) as clients:
        clients.prepare()
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ClientsError, match="locked"):
                clients.add("192.0.2.1", 10)
        clients.add("192.0.2.1", 10)
    assert records(file) == {"192.0.2.1": 10}


def test_the_notebook_forgets_in_time_and_mixes_nobody_up() -> None:
    notebook = Notebook()
    assert not notebook.is_fresh("192.0.2.1", 0.0)
    notebook.note("192.0.2.1", 10.0)
    assert notebook.is_fresh("192.0.2.1", 9.9)
    assert not notebook.is_fresh("192.0.2.1", 10.0)
    others = [f"10.0.{number // 256}.{number % 256}" for number in range(2 * SLOTS)]
    assert not any(notebook.is_fresh(other, 0.0) for other in others)
    for other in others:
        notebook.note(other, 20.0)
        assert notebook.is_fresh(other, 19.0)
    assert sum(notebook.is_fresh(other, 19.0) for other in others) <= SLOTS


def test_children_share_the_notebook() -> None:
    notebook = Notebook()
    pid = os.fork()
    if pid == 0:
        notebook.note("192.0.2.1", 10.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert notebook.is_fresh("192.0.2.1", 9.0)


class Clock:
    """Both clocks of the recorder."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The recorder's clocks."""
    clock = Clock()
    monkeypatch.setattr(recording, "time", clock)
    return clock


@pytest.fixture
def recorder(file: Path) -> Recorder:
    """A recorder with a new database."""
    return Recorder(str(file), LIFETIME)


def close(recorder: Recorder, log: Log) -> None:
    """End what a process has until its end."""
    recorder._clients.close()
    os.close(log.fileno())


def test_who_was_recorded_just_now_is_not_written_again_and_may_send_all_the_time(
        file: Path, log: Log, recorder: Recorder, clock: Clock) -> None:
    written = set()
    for _ in range(200):
        assert recorder.record("192.0.2.1", log)
        [until] = records(file).values()
        written.add(until)
        assert LIFETIME <= until - clock.time() <= LIFETIME * 1.25 + 1
        clock.now += 1.0
    assert len(written) == 200 / 25
    close(recorder, log)


def test_an_address_with_a_zone_is_not_recorded(file: Path, log: Log, recorder: Recorder) -> None:
    assert recorder.record("fe80::1%eth0", log)
    assert not file.exists()
    close(recorder, log)


def test_after_a_failure_nobody_waits_for_a_while_but_who_leaves(file: Path, log: Log, recorder: Recorder,
                                                                 clock: Clock) -> None:
    recorder.prepare(log)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not recorder.record("192.0.2.1", log)
    assert not recorder.record("192.0.2.2", log)
    assert recorder.record("192.0.2.3", log, is_last_try=True)
    clock.now += recording.REST_SECONDS
    assert recorder.record("192.0.2.4", log)
    assert records(file).keys() == {"192.0.2.3", "192.0.2.4"}
    text = (file.parent / "log").read_text()
    assert text.count("\n") == text.count("ADM 0250 smtp_not_recorded client='192.0.2.1' path=") == 1
    close(recorder, log)


def test_one_recorder_after_another_complains_once(tmp_path: Path, log: Log) -> None:
    first = Recorder(str(tmp_path / "missing/a.db"), LIFETIME)
    second = Recorder(str(tmp_path / "missing/b.db"), LIFETIME, first)
    for each in (first, second):
        each.prepare(log)
    text = (tmp_path / "log").read_text()
    assert text.count("smtp_not_recorded client='' path=") == 1
    close(second, log)


def test_time_stands_still_nowhere(file: Path, log: Log, recorder: Recorder) -> None:
    """With the real clocks."""
    before = int(time.time())
    assert recorder.record("192.0.2.1", log)
    [until] = records(file).values()
    assert before + LIFETIME <= until <= time.time() + LIFETIME * 1.25 + 2
    close(recorder, log)
