"""The store of the module poauth: what is in its files, who may use them, and how its key is changed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from popular.net.tls.context import KeyPair
from popular.pdm.api import PdmError
from popular.pdm.oauth.keyfile import new_key, write_keys
from popular.pdm.oauth.oauthclient import Tokens
from tests.harness.authserver import SECRET, AuthServer
from tests.harness.certificates import Authority
from tests.harness.needs import need_module
from tests.harness.tokenmodule import ANN, JOE, Load, grant, loading, store_of, token

need_module("cryptography")
need_module("urllib3")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign("localhost", stem="oauth")


@pytest.fixture
def server(pair: KeyPair) -> Iterator[AuthServer]:
    made = AuthServer(pair)
    yield made
    made.close()


@pytest.fixture
def load(server: AuthServer, authority: Authority, tmp_path: Path) -> Iterator[Load]:
    with loading(server, authority.cafile, tmp_path) as make:
        yield make


def test_nothing_is_stored_in_clear(load: Load, server: AuthServer, tmp_path: Path) -> None:
    module = load()
    refresh = grant(module, server)
    access = token(module)
    module.close()
    stored = (tmp_path / "tokens.db").read_bytes()
    assert not any(word.encode() in stored for word in (refresh, access, SECRET))
    assert (tmp_path / "tokens.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as database, database:    # what was somebody else's is no use
        database.execute("INSERT INTO grants (module, user, access, until) SELECT module, 'eve', access, until "
                         "FROM grants WHERE user != ''")
    module.open()
    with pytest.raises(PdmError, match="a token was stored for somebody else"):
        token(module, "eve")
    assert [kept.user for kept in store_of(module).users()] == ["eve", JOE]
    kept = store_of(module).find(JOE)
    shown = repr([kept, store_of(module).claim(kept, 1.0), Tokens(access, 1, refresh), vars(module._gateway.client)])
    assert not any(word in shown for word in (refresh, access, SECRET))


def spoil(folder: Path, how: str) -> None:
    store, key = folder / "tokens.db", folder / "key"
    match how:
        case "damaged":
            store.write_bytes(store.read_bytes()[:-4096] + b"x" * 4096)
        case "no database":
            store.write_bytes(b"x" * 5000)
        case "newer":
            with closing(sqlite3.connect(store)) as database:
                database.execute("PRAGMA user_version = 2")
        case "folder":
            store.unlink()
            store.mkdir()
        case "link":
            store.rename(folder / "moved")
            store.symlink_to(folder / "moved")
        case "for everybody":
            store.chmod(0o666)
        case "wrong key":
            key.unlink()
            write_keys(str(key), [new_key()], 0, 0)
        case "no key":
            key.unlink()
        case "nonsense":
            key.chmod(0o600)
            key.write_text("nonsense\n")
        case "readable":
            key.chmod(0o440)
        case "secret":
            (folder / "secret").unlink()


@pytest.mark.parametrize("how, text", [
    ("damaged", "tokens.db: SQLite says: database disk image is malformed"),
    ("no database", "tokens.db: SQLite says: file is not a database"),
    ("newer", "tokens.db: was made by another version"), ("folder", "tokens.db: Is a directory"),
    ("link", "tokens.db: Too many levels"), ("for everybody", "tokens.db: can be written by everybody"),
    ("wrong key", "key: has not the key with which"), ("no key", "key: No such file"), ("nonsense", "key: not a key"),
    ("readable", "key: group or others may read or write it: chmod 400"), ("secret", "secret: No such file")])
def test_files_that_cannot_be_used(load: Load, server: AuthServer, tmp_path: Path, how: str, text: str) -> None:
    module = load()
    grant(module, server)
    module.close()
    module.probe()
    spoil(tmp_path, how)
    with pytest.raises(PdmError, match=text):
        module.open()
        token(module)
    module.close()
    with pytest.raises(PdmError, match=text):
        module.probe()
    assert not server.asked


def test_a_probe_makes_nothing(load: Load, tmp_path: Path) -> None:
    module = load()
    module.close()
    (tmp_path / "tokens.db").unlink()
    module.probe()
    assert not (tmp_path / "tokens.db").exists()
    (tmp_path / "key").unlink()
    with pytest.raises(PdmError, match="key: No such file; poauth makes it"):
        module.probe()


def test_a_locked_store(load: Load, server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load()
    grant(module, server, seconds=3600)
    grant(module, server, ANN)
    with closing(sqlite3.connect(tmp_path / "tokens.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        assert token(module) == f"first-of-{JOE}", "nothing is written"
        with pytest.raises(PdmError, match="tokens.db: SQLite says: database is locked"):
            token(module, ANN)
        database.execute("ROLLBACK")
    assert not server.asked, "what came could not be stored"
    assert token(module, ANN) == server.given[0]


def test_a_new_key(load: Load, server: AuthServer, tmp_path: Path) -> None:
    module, other = load(), load(ident="other")
    grant(module, server, seconds=3600)
    grant(other, server, ANN, seconds=3600)
    assert token(module) == f"first-of-{JOE}"
    path, old, new = str(tmp_path / "key"), (tmp_path / "key").read_bytes().split(), new_key()
    write_keys(path, [new, *old], 0, 0)
    assert token(module) == f"first-of-{JOE}", "not encrypted anew yet"
    assert store_of(module).encrypt_anew() == 4
    write_keys(path, [new], 0, 0)
    assert (token(module), token(other, ANN)) == (f"first-of-{JOE}", f"first-of-{ANN}")


def test_a_first_key_replaces_no_other(tmp_path: Path) -> None:
    path, key = tmp_path / "key", new_key()
    write_keys(str(path), [key], 0, 0, is_new=True)
    with pytest.raises(FileExistsError):
        write_keys(str(path), [new_key()], 0, 0, is_new=True)
    assert path.read_bytes() == key + b"\n" and list(tmp_path.iterdir()) == [path]
