"""The module oauth over TLS, in pproxy with its cache, and in ptestpdm."""

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.pdm.api import Outcome
from tests.harness.certificates import Authority
from tests.harness.daemon import ROOT, Daemon
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request
from tests.harness.popclient import PopClient
from tests.harness.proxy import store

need_module("joserfc")
need_module("jwt")
need_module("urllib3")

from tests.harness import oauth  # noqa: E402    it needs joserfc

CONFIG = """\
[pproxy]
user = {user}
group = {user}
[vserv]
    [[main]]
    address = 0.0.0.0:110
    namespace = example.org
    userformat = lower strip=example.org
[backend]
    [[store]]
    protocol = xpop
    address = 127.0.0.1:1
[pdm]
    [[users]]
    module = passwd
    args = {folder}/users
    [[tokens]]
    module = oauth
    args = {words}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who has signed the provider's certificate; pproxy's user can read it."""
    made = Authority.make(tmp_path_factory.mktemp("ca"))
    for folder in (Path(made.cafile).parent, *Path(made.cafile).parents[1:3]):
        folder.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def provider(authority: Authority) -> Iterator[oauth.Provider]:
    """A provider at https://localhost."""
    made = oauth.Provider([oauth.make_key("ES256", "first")], authority.sign("localhost"))
    yield made
    made.close()


@pytest.fixture
def words(provider: oauth.Provider, authority: Authority) -> str:
    """The arguments of the module."""
    return (f"discover={provider.issuer}/.well-known/openid-configuration audience=pop3 cafile={authority.cafile} "
            f"introspect={provider.issuer}/introspect clientid={oauth.CLIENT} clientsecret={oauth.SECRET}")


def test_the_certificate_of_the_provider_is_checked(provider: oauth.Provider, words: str) -> None:
    without = [word for word in words.split() if not word.startswith("cafile=")]
    for args, outcome, why in ((words.split(), Outcome.OK, ""), (without, Outcome.FAILED, "its certificate: ")):
        module = make_module("oauth", *args)
        module.open()
        for token in (provider.token(algorithm="ES256"), provider.opaque()):
            answer = module.check(replace(make_request("joe", token), mechanism="XOAUTH2"))
            assert answer.outcome is outcome and why in answer.why
        module.close()


def test_ptestpdm_tries_a_token(provider: oauth.Provider, words: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("joe:{PLAIN}secret:store::j/joe\n")
    config = tmp_path / "pproxy.conf"
    config.write_text(CONFIG.format(user="root" if os.geteuid() == 0 else "nobody", folder=tmp_path, words=words))
    (tmp_path / "commands").write_text(f"tokens oauth {words}\nusers passwd {tmp_path}/users\n")
    token = provider.token(algorithm="ES256", email="Joe@example.org")
    (tmp_path / "data").write_text(f"127.0.0.1 pop3 x Joe@example.org {token}\n127.0.0.1 pop3 x joe {token}\n")

    def ptestpdm(*options: str | Path) -> tuple[int, list[str]]:
        done = subprocess.run([sys.executable, ROOT / "bin/ptestpdm", "--mechanism", "OAUTHBEARER", *options],
                              timeout=40, cwd="/", input=f"{token}\n", capture_output=True, text=True)
        assert done.stderr == "" and token not in done.stdout
        return done.returncode, done.stdout.splitlines()
    code, lines = ptestpdm("-c", config, "")    # the token says who they are, and userformat makes them joe
    assert code == 0 and lines[:3] == [
        "tokens ok module='oauth' owner='Joe@example.org'",
        "users ok module='passwd' backend='store' protocol='' mailbox='j/joe' user=''",
        "login ok namespace='example.org' by='users'"]
    assert ptestpdm(tmp_path / "commands", tmp_path / "data") == (0, [
        "Joe@example.org x unknown - - - - -", "joe x denied tokens - - - -"])


def test_logins_with_tokens_and_the_cache(start: Callable[..., Daemon], authority: Authority, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    (tmp_path / "users").write_text("joe:{PLAIN}secret:store:xpop:j/joe\nann:{PLAIN}secret:store:xpop:a/ann\n")
    provider = oauth.Provider([oauth.make_key("ES256")], authority.sign("localhost", stem="own"))
    proxy = start("pproxy", {
        "pproxy": {"authdelay": 0, "pdmworkers": 1, "maxauthtries": 1, "cache": 100},
        "vserv": {"main": {"address": "127.0.0.1:0", "userformat": "lower strip=example.org"}},
        "backend": store(Endpoint("127.0.0.1", 1), enabled="off"),    # its users see an empty mailbox
        "pdm": {"users": {"module": "passwd", "args": str(tmp_path / "users")},
                "tokens": {"module": "oauth", "args": (
                    f"discover={provider.issuer}/.well-known/openid-configuration audience=pop3 aspassword=yes "
                    f"introspect={provider.issuer}/introspect clientid={oauth.CLIENT} clientsecret={oauth.SECRET} "
                    f"cafile={authority.cafile}")}},
    })

    def login(user: str, password: str, mechanism: str = "") -> str:
        message = f"user={user}\1auth=Bearer {password}\1\1" if mechanism == "XOAUTH2" else (
            f"n,{f'a={user}' if user else ''},\1auth=Bearer {password}\1\1")
        with PopClient(proxy.endpoint()) as client:
            if not mechanism:
                return client.login(user, password).decode().removeprefix("-ERR ").split()[0]
            client.greeting()
            told = client.command(f"AUTH {mechanism} {b64encode(message.encode()).decode()}")
            if told.startswith(b"+ "):    # why it was refused, which the client has to confirm
                told = client.command(b"AQ==")
            return told.decode().removeprefix("-ERR ").split()[0]
    signed, token, other = provider.token(algorithm="ES256"), provider.opaque(), provider.opaque()
    expired = provider.token(algorithm="ES256", exp=1)
    provider.asked.clear()
    try:
        assert login("JOE", signed, "OAUTHBEARER") == login("", signed, "OAUTHBEARER") == "+OK"
        assert login("joe", signed, "XOAUTH2") == login("joe", "secret") == "+OK" and not provider.asked[2:]
        assert login("ann", signed, "XOAUTH2") == login("joe", expired, "OAUTHBEARER") == "[AUTH]"
        assert login("joe", "secret", "XOAUTH2") == "[AUTH]" and provider.asked.count("POST /introspect") == 1
        assert login("joe", token) == login("Joe", token) == "+OK" and login("ann", token) == "[AUTH]"
    finally:
        provider.close()
    assert login("joe", token) == login("joe", signed, "XOAUTH2") == login("ann", "secret") == "+OK"
    assert login("joe", other) == login("joe", other, "XOAUTH2") == "[SYS/TEMP]"
    text = "\n".join(proxy.log_lines())
    assert "it belongs to user" in text and "why='expired " in text and "Connection refused" in text
    assert not any(secret in text for secret in (signed, token, other, expired, oauth.SECRET))
