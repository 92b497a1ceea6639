"""The daily look at the days that certificates have left."""

import time

import pytest

from popular.daemon import certificates
from popular.daemon.certificates import DAY, CertificateWatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_without_certificates_there_is_nothing_to_wait_for(clock: list[float]) -> None:
    watch = CertificateWatch(dict, None)    # type: ignore[arg-type]
    assert watch.patience(clock[0]) is None


def test_once_a_day(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    monkeypatch.setattr(certificates, "note_ending", lambda owners, log: looks.append(owners))
    owners = {"main": object()}
    watch = CertificateWatch(lambda: owners, None)    # type: ignore[arg-type, return-value]
    assert watch.patience(clock[0]) == DAY
    for hours, expected in ((0, 0), (23, 0), (24, 1), (25, 1), (48, 2)):
        clock[0] = 1000.0 + hours * 3600
        watch.attend()
        assert len(looks) == expected
    watch.close()
