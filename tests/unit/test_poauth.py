"""poauth: consents are got by device and by code, shown, tried and revoked, and the key of the store is changed."""

import io
import os
import pwd
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from popular.net.tls.context import KeyPair
from popular.tools import poauth
from tests.harness.authserver import SECRET, AuthServer, Reply, error
from tests.harness.certificates import Authority
from tests.harness.needs import need_module
from tests.harness.pdm import make_module

need_module("cryptography")
need_module("urllib3")

JOE = "joe@example.org"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign("localhost", stem="oauth")


@pytest.fixture
def server(pair: KeyPair) -> Iterator[AuthServer]:
    made = AuthServer(pair)
    yield made
    made.close()


@pytest.fixture
def words(server: AuthServer, authority: Authority, tmp_path: Path) -> list[str]:
    """The arguments of the module."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o400)
    return server.words(f"store={tmp_path}/tokens.db", f"keyfile={tmp_path}/key", f"cafile={authority.cafile}",
                        secretfile=str(tmp_path / "secret"))


def write_config(path: Path, *modules: tuple[str, list[str]], user: str | None = None) -> None:
    user = user or pwd.getpwuid(os.geteuid()).pw_name
    path.write_text(f"[pproxy]\nuser = {user}\n[pdm]\n" + "".join(
        f"[[{ident}]]\nmodule = poauth\nargs = {shlex.join(words)}\n" for ident, words in modules))


@pytest.fixture
def run(words: list[str], tmp_path: Path, server: AuthServer, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs poauth here; returns the exit code, what it prints, and what it reports."""
    write_config(tmp_path / "pproxy.conf", ("gate", words))
    monkeypatch.setattr(poauth, "time", SimpleNamespace(
        monotonic=time.monotonic, strftime=time.strftime, localtime=time.localtime, sleep=waited(server).append))

    def run(*argv: str) -> tuple[int, str, str]:
        try:
            code = poauth.run(["-c", str(tmp_path / "pproxy.conf"), *argv])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        keys = (tmp_path / "key").read_text().split() if (tmp_path / "key").exists() else []
        assert not any(secret in out + err for secret in (SECRET, *server.given, *server.consents, *keys))
        return code, out, err
    return run


def waited(server: AuthServer) -> list[float]:
    """Return the list of the seconds that were waited."""
    found: list[float] = server.__dict__.setdefault("waited", [])
    return found


def token(words: list[str], user: str = JOE) -> str:
    """Return what a PDM worker would get."""
    module = make_module("poauth", *words, ident="gate")
    module.open()
    try:
        found: str = module.token(user, "store", time.monotonic() + 10, "")
        return found
    finally:
        module.close()


def test_consent_by_device(run: Run, server: AuthServer, words: list[str], tmp_path: Path) -> None:
    server.polls = 2
    code, out, err = run("grant", "Joe@Example.org")
    assert (code, err) == (0, "")
    assert out == (f"Log in as 'Joe@Example.org' at {server.url}/link and type the code WDJB-MJHT\n"
                   "'Joe@Example.org' granted\n")
    assert waited(server) == [1, 1, 1]
    assert [path for path, _ in server.asked] == ["/device", "/token", "/token", "/token"]
    assert token(words) == server.given[0], "it is used until it is about to expire"
    assert ((tmp_path / "key").stat().st_mode & 0o777, (tmp_path / "tokens.db").stat().st_mode & 0o777) == (
        0o400, 0o600)


@pytest.mark.parametrize("answers, seconds, text", [
    ([error("slow_down"), error("authorization_pending"), Reply(None), error("temporarily_unavailable", 503)],
     [1, 6, 6, 11], "temporarily_unavailable"),
    ([error("access_denied")], [1], "access_denied"), ([error("expired_token")], [1], "expired_token"),
    ([error("slow_down")] * 6, None, "the code has expired"),
    ([Reply({"access_token": "a", "token_type": "Bearer"})], [1], "no refresh token: check the scope")])
def test_no_consent_by_device(run: Run, server: AuthServer, monkeypatch: pytest.MonkeyPatch, answers: list[Reply],
                              seconds: list[float] | None, text: str) -> None:
    clock = SimpleNamespace(now=time.monotonic())

    def sleep(pause: float) -> None:
        clock.now += pause
        waited(server).append(pause)
    if seconds is None:
        monkeypatch.setattr(poauth, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    device = {"device_code": "x" * 20, "user_code": "1", "verification_url": "https://h/", "expires_in": 100,
              "interval": "1"}
    server.next = [Reply(device), *answers]
    found, _, err = run("grant", JOE)
    assert found == 1 and text in err
    assert seconds is None or waited(server) == seconds
    assert run("list")[1] == ""


def test_consent_by_code(run: Run, server: AuthServer, words: list[str], monkeypatch: pytest.MonkeyPatch,
                         capsys: pytest.CaptureFixture[str]) -> None:
    def paste(size: int) -> str:
        [url] = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    https://")]
        return server.browse(url, JOE) + "\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=paste))
    assert run("grant", "--code", JOE) == (0, f"'{JOE}' granted\n", "")
    assert token(words) == server.given[0]
    monkeypatch.setattr(sys, "stdin", io.StringIO("http://localhost/back?code=x&state=y\n"))
    code, _, err = run("grant", "--code", JOE)
    assert (code, err) == (1, "poauth: this is not the URL to which the browser was sent: it lacks the state of this "
                              "attempt\n")


def test_a_provider_without_device_flow(run: Run, words: list[str], tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path / "pproxy.conf", ("gate", [word for word in words if not word.startswith("deviceurl")]))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    code, out, _ = run("grant", JOE)
    [url] = [line.strip() for line in out.splitlines() if line.startswith("    https://")]
    assert code == 1 and parse_qs(urlsplit(url).query)["code_challenge_method"] == ["S256"]


def test_consents_are_shown_tried_and_revoked(run: Run, server: AuthServer, words: list[str]) -> None:
    assert run("list") == (0, "", "")
    assert run("test", JOE) == (1, "", f"poauth: no consent was given for user '{JOE}'; see poauth(8)\n")
    for user in (JOE, "ann@example.org"):
        assert run("grant", user)[0] == 0
    code, out, _ = run("test", JOE)
    assert code == 0 and out.startswith(f"'{JOE}' ok until=20") and len(server.given) == 3
    assert token(words) == server.given[2]
    server.consents.clear()
    code, _, err = run("test", JOE)
    assert code == 1 and "invalid_grant: Token has been expired or revoked." in err
    server.next = [error("temporarily_unavailable", 503)]
    assert run("test", "ann@example.org")[0] == 1
    code, out, _ = run("list")
    provider, ann, joe = out.splitlines()
    assert provider.startswith("* trouble why='https://") and ann.startswith("'ann@example.org' ok granted=20")
    assert joe.startswith(f"'{JOE}' refused granted=20") and " refreshed=20" in joe and " until=20" in joe
    assert run("revoke", JOE) == (0, f"'{JOE}' forgotten here and revoked\n", "")
    server.next = [error("server_error", 500)]
    code, _, err = run("revoke", "ann@example.org")
    assert code == 1 and "forgotten here, but the provider may still have it" in err
    assert run("revoke", "ann@example.org")[0] == 1 and server.asked[-1][0] == "/revoke"
    assert run("list")[1] == f"{provider}\n"


def test_a_new_key(run: Run, words: list[str], server: AuthServer, tmp_path: Path) -> None:
    run("grant", JOE)
    before = (tmp_path / "key").read_text()
    assert run("rekey") == (0, "encrypted 2 entries anew\n", "")
    after = (tmp_path / "key").read_text()
    assert before.strip() not in after and len(after.split()) == 1 and token(words) == server.given[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "pproxy.conf", "secret", "tokens.db"]
    (tmp_path / "tokens.db").write_bytes(b"x" * 5000)    # both keys remain if it fails
    assert run("rekey")[0] == 1
    assert (tmp_path / "key").read_text().split()[1:] == after.split()


@pytest.mark.parametrize("argv, code, text", [
    (["list", JOE], 64, "give no USER with list"), (["grant"], 64, "give a USER with grant"),
    (["test", "--code", JOE], 64, "--code is only allowed with grant"), (["steal", JOE], 64, "invalid choice"),
    (["-m", "other", "list"], 78, "there is no database module poauth with id other"),
    (["grant", "a\nb"], 1, "cannot be the name of a user")])
def test_wrong_words(run: Run, argv: list[str], code: int, text: str) -> None:
    found, _, err = run(*argv)
    assert found == code and text in err


def test_which_module_is_meant(run: Run, words: list[str], tmp_path: Path) -> None:
    run("grant", JOE)
    write_config(tmp_path / "pproxy.conf", ("gate", words), ("other", words))
    assert run("list") == (78, "", "poauth: there are several modules poauth: give -m and one of gate, other\n")
    assert run("-m", "other", "list")[:2] == (0, "") and JOE in run("-m", "gate", "list")[1]
    write_config(tmp_path / "pproxy.conf", ("gate", ["nonsense"]))
    code, _, err = run("list")
    assert code == 78 and "[pdm] gate: gate: module poauth: argument 1 is not KEY=VALUE" in err
    own = [*words, "grant=client_credentials"]
    write_config(tmp_path / "pproxy.conf", ("gate", own))
    assert run("grant", JOE)[2] == "poauth: with grant=client_credentials, no consent of users is needed\n"
    assert run("test", JOE)[1].startswith(f"'{JOE}' ok until=20")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_what_root_makes_belongs_to_the_user_of_pproxy(run: Run, server: AuthServer, authority: Authority,
                                                       rundir: Path) -> None:
    run("grant", JOE)    # loads everything, which the other user may not be able to read
    nobody = pwd.getpwnam("nobody")
    rundir.chmod(0o755)
    (rundir / "store").mkdir(0o700)
    (rundir / "secret").write_text(SECRET)
    (rundir / "secret").chmod(0o400)
    for path in ("store", "secret"):
        os.chown(rundir / path, nobody.pw_uid, nobody.pw_gid)
    shutil.copy(authority.cafile, rundir / "ca.pem")
    write_config(rundir / "pproxy.conf", ("gate", server.words(
        f"store={rundir}/store/tokens.db", f"keyfile={rundir}/key", f"cafile={rundir}/ca.pem",
        secretfile=f"{rundir}/secret")), user="nobody")
    for argv in (["grant", JOE], ["rekey"], ["test", JOE]):
        if not (pid := os.fork()):
            code = 99
            try:
                code = poauth.run(["-c", f"{rundir}/pproxy.conf", *argv])
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
    assert all(path.stat().st_uid == nobody.pw_uid for path in (rundir / "key", rundir / "store/tokens.db"))
    assert (rundir / "key").stat().st_mode & 0o777 == 0o400
