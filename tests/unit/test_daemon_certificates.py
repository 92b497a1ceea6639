"""How often certificates are read, and the daily look at the days that they have left."""

import time

import pytest

from popular.config.store import FROM_FILE, Item, Values
from popular.daemon import tls as daemon_tls
from popular.daemon.tls import LOOK_SECONDS, STARTTLS, CertificateWatch, load_tls
from popular.net.tls import context as tlscontext
from popular.net.tls.context import Certificate, KeyPair
from tests.harness.certificates import Authority


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
    monkeypatch.setattr(daemon_tls, "note_ending", lambda owners, log: looks.append(owners))
    owners = {"main": object()}
    watch = CertificateWatch(lambda: owners, None)    # type: ignore[arg-type, return-value]
    assert watch.patience(clock[0]) == LOOK_SECONDS
    for hours, expected in ((0, 0), (23, 0), (24, 1), (25, 1), (48, 2)):
        clock[0] = 1000.0 + hours * 3600
        watch.attend()
        assert len(looks) == expected
    watch.close()


def test_each_certificate_is_read_once_and_not_again_while_it_is_the_same(
        authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [authority.sign("mail.example.org"), authority.sign("mail.example.net", kind="rsa")]
    read: list[KeyPair] = []
    real = tlscontext.read_certificate

    def noted(pair: KeyPair) -> Certificate:
        read.append(pair)
        return real(pair)

    monkeypatch.setattr(tlscontext, "read_certificate", noted)
    item = Item("main", Values({
        "tls": STARTTLS, "certificate": tuple(pair.certificate for pair in pairs),
        "key": tuple(pair.key for pair in pairs), "tlsmin": "1.2", "tlsciphers": None}), FROM_FILE)
    first = load_tls("vserv", [item], {}, None)    # type: ignore[arg-type]
    assert [one.names for one in first["main"].certificates] == [("mail.example.org",), ("mail.example.net",)]
    assert read == pairs
    assert load_tls("vserv", [item], first, None) == first    # type: ignore[arg-type]
    assert read == pairs
    authority.sign("mail.example.org")
    assert load_tls("vserv", [item], first, None) != first    # type: ignore[arg-type]
    assert read == pairs * 2
