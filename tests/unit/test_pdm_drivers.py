"""Drivers that are loaded when they are wanted: in the process that wants them, and in the master of those to come."""

import sys

import pytest

from popular.errors import PdmError
from popular.pdm.drivers import Drivers, driver
from popular.pdm.timelimit import TimeUp, limited


@pytest.fixture
def drivers(tmp_path, monkeypatch):
    """A table of three: one that is good, one that is missing, one that cannot be loaded."""
    (tmp_path / "driver_good.py").write_text("STATE = 'loaded'\n")
    (tmp_path / "driver_broken.py").write_text("raise RuntimeError('half replaced')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Drivers(("driver_good", "driver_missing", "driver_broken"))
    for name in ("driver_good", "driver_broken"):
        sys.modules.pop(name, None)


def test_a_driver_is_loaded_when_it_is_wanted_and_is_news_once(drivers):
    assert "driver_good" not in sys.modules and drivers.news == []
    assert drivers.get("driver_good").STATE == "loaded"
    assert drivers.get("driver_good") is sys.modules["driver_good"]
    assert drivers.news == [0]


def test_one_that_is_missing_is_looked_for_again_and_is_news_once(drivers, tmp_path):
    assert drivers.get("driver_missing") is drivers.get("driver_missing") is None
    assert drivers.news == [1]


def test_one_that_cannot_be_loaded_says_so_every_time(drivers):
    for _ in range(2):
        with pytest.raises(RuntimeError):
            drivers.get("driver_broken")
    assert drivers.news == [2]


def test_the_master_loads_what_it_is_told_and_tells_nobody(drivers):
    assert drivers.supply(0)
    assert "driver_good" in sys.modules
    assert drivers.get("driver_good").STATE == "loaded"
    assert drivers.news == []


def test_the_master_tries_each_once(drivers, tmp_path):
    assert [drivers.supply(number) for number in (0, 0, 1, 2)] == [True, False, False, False]
    (tmp_path / "driver_broken.py").write_text("STATE = 'mended'\n")
    assert not drivers.supply(2)
    assert drivers.get("driver_broken").STATE == "mended"
    assert drivers.get("driver_missing") is None
    assert drivers.news == [], "a child of this master would tell it nothing new"


def test_the_master_survives_one_that_panics(drivers, tmp_path):
    (tmp_path / "driver_broken.py").write_text("raise BaseException('as pyo3 has it')\n")
    assert not drivers.supply(2)


@pytest.mark.parametrize("number", [3, 4, 239])
def test_a_number_of_no_driver_means_nothing(drivers, number):
    before = set(sys.modules)
    assert not drivers.supply(number)
    assert set(sys.modules) == before


def test_a_database_module_gets_its_driver_or_is_told_what_to_install(drivers):
    assert driver("driver_good", "good").STATE == "loaded"
    with pytest.raises(PdmError, match="^needs the Python package better: No module named 'driver_missing'$"):
        driver("driver_missing", "better")


def test_a_time_limit_does_not_leave_a_driver_loaded_in_part(drivers, tmp_path):
    (tmp_path / "driver_good.py").write_text(
        "import signal, time\nuntil = time.monotonic() + 30\n"
        "while signal.SIGALRM not in signal.sigpending() and time.monotonic() < until:\n    time.sleep(0.001)\n"
        "STATE = 'loaded'\n")
    for load in (lambda: drivers.get("driver_good"), lambda: driver("driver_good", "good")):
        with pytest.raises(TimeUp):
            limited(0.02, load)
        assert sys.modules.pop("driver_good").STATE == "loaded"


def test_what_a_driver_logs_is_dropped(drivers, tmp_path, caplog):
    (tmp_path / "driver_good.py").write_text(
        "import logging\ndef ask():\n    logging.getLogger('driver_good.part').error('secret')\n")
    driver("driver_good", "good").ask()
    assert caplog.records == []
