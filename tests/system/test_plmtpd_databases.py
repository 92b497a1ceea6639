"""plmtpd asks databases that have a server in its children: their drivers, libraries in C, work within the walls."""

import shlex
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.databases import UserRow, kinds, launched
from tests.harness.lmtpclient import LmtpClient


@pytest.mark.parametrize("kind", ["pgsql", "ldap"])
def test_a_recipient_is_found(kind: str, tmp_path: Path) -> None:
    with launched(kinds()[kind]) as (database, _):
        database.add(UserRow("joe", "secret", mailbox="joe"))
        (tmp_path / "spool").mkdir()
        texts: dict[str, dict[str, object]] = {
            "plmtpd": {"mailboxdir": tmp_path / "spool", "missing": "create", "minspare": 1, "maxspare": 1},
            "server": {"main": {"address": f"unix:{tmp_path}/lmtp"}},
            "pdm": {"users": {"module": database.module, "args": shlex.join(database.words())}}}
        with Daemon.start("plmtpd", texts, tmp_path) as daemon, LmtpClient(daemon.endpoint("main")) as client:
            assert client.begin(["joe", "nobody"]) == ["250 2.1.5", "550 5.1.1"], daemon.report()
