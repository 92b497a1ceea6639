"""The module db on real Berkeley DB files."""

import os
from typing import Any

import pytest

from popular.pdm.api import UNKNOWN, Outcome
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request

db: Any = need_module("berkeleydb.db")


def write(path, kind, **users):
    database = db.DB()
    database.open(str(path), dbtype=kind, flags=db.DB_CREATE)
    for user, record in users.items():
        database.put(user.encode(), record.encode())
    database.close()


@pytest.fixture
def module(tmp_path):
    """A module on a file that may not yet be there."""
    made = make_module("db", tmp_path / "users.db")
    yield made
    made.close()
    made.close()


@pytest.mark.parametrize("kind", ["DB_HASH", "DB_BTREE"])
def test_users_and_passwords(module, kind):
    write(module.path, getattr(db, kind), joe="{PLAIN}secret:store1:cxpop:3/2d/joe", bad="{PLAIN}secret")
    assert module.check(make_request("joe")).found.mailbox == "3/2d/joe"
    assert module.check(make_request("joe", "x")).outcome is Outcome.DENIED
    assert module.check(make_request("bad")).outcome is Outcome.FAILED
    assert module.check(make_request("joey")) == UNKNOWN
    assert module.check(make_request("a:b")) == UNKNOWN


def test_the_file_is_not_changed(module):
    write(module.path, db.DB_HASH, joe="{PLAIN}secret:s::m")
    before = os.stat(module.path)
    os.chmod(module.path, 0o400)
    module.check(make_request("joe"))
    after = os.stat(module.path)
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert os.listdir(os.path.dirname(module.path)) == ["users.db"]
