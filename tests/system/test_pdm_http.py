"""The module http over TLS with a real nginx; the contract of all modules has the rest."""

from pathlib import Path

import pytest

from popular.errors import PdmError
from popular.pdm.api import Outcome
from tests.harness.certificates import Authority
from tests.harness.databases import UserRow
from tests.harness.databases.http import Nginx
from tests.harness.pdm import make_module, make_request

JOE = make_request("joe", "secret", namespace="default")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who has signed the server's certificate."""
    return Authority.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def nginx(authority, tmp_path_factory):
    """A server for localhost."""
    server = Nginx(tmp_path_factory.mktemp("nginx"), authority.sign("localhost"))
    server.add(UserRow("joe", "secret"))
    yield server
    server.close()


@pytest.fixture
def ask(nginx):
    """A function that asks about joe with these words in the place of the adapter's."""
    def asked(*words: str):
        keys = {word.partition("=")[0] for word in words}
        made = make_module("http", *words, *(word for word in nginx.words() if word.partition("=")[0] not in keys))
        made.open()
        try:
            return made.check(JOE).outcome
        finally:
            made.close()
    return asked


def test_a_certificate_that_is_right(ask, authority):
    assert ask(f"cafile={authority.cafile}") is Outcome.OK


def test_a_certificate_for_an_address(authority, tmp_path):
    server = Nginx(tmp_path, authority.sign("127.0.0.1", stem="address"))
    try:
        server.add(UserRow("joe", "secret"))
        url = f"url={server.url.replace('localhost', '127.0.0.1')}"
        made = make_module("http", url, *server.words()[1:], f"cafile={authority.cafile}")
        made.open()
        assert made.check(JOE).outcome is Outcome.OK
        made.close()
    finally:
        server.close()


@pytest.mark.parametrize("name, why", [
    ("nobody", "its certificate: (unable to get local issuer|self-signed) certificate"),
    ("address", r"its certificate: .*127\.0\.0\.1")])
def test_a_certificate_that_is_wrong(ask, nginx, authority, name, why):
    words = {"nobody": [], "address": [f"cafile={authority.cafile}",
                                       f"url={nginx.url.replace('localhost', '127.0.0.1')}"]}[name]
    with pytest.raises(PdmError, match=why):
        ask(*words)


def test_a_wrong_secret_of_ours_is_a_failure(ask, authority, tmp_path: Path):
    path = tmp_path / "secret"
    path.write_text("wrong\n")
    path.chmod(0o600)
    with pytest.raises(PdmError, match="HTTP status 403"):
        ask(f"cafile={authority.cafile}", f"secretfile={path}")
