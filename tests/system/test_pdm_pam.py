"""The module pam in a PDM worker, where PAM's modules run programs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import store

_SCRIPT = """#!/bin/sh
while [ "$PAM_USER" = slow ] && [ -e "$0" ]; do sleep 0.05; done
IFS= read -r password
[ "$PAM_USER:$password" = "joe:s3cret" ]
"""
_SERVICE = """\
auth [success=1 default=ignore] pam_exec.so quiet expose_authtok {script}
auth requisite pam_deny.so
auth required pam_permit.so
account required pam_permit.so
"""


@pytest.fixture
def proxy(start: Callable[..., Daemon], rundir: Path) -> Iterator[Daemon]:
    """A proxy whose users PAM knows; for one, called slow, it does not answer."""
    rundir.chmod(0o755)
    script, folder = rundir / "script", rundir / "pam.d"
    script.write_text(_SCRIPT)
    script.chmod(0o755)
    folder.mkdir(0o755)
    (folder / "popular").write_text(_SERVICE.format(script=script))
    yield start("pproxy", {
        "pproxy": {"authdelay": 0, "softfail": "on", "pdmtimeout": "1s"}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)),
        "pdm": {"users": {"module": "pam", "args": f"confdir={folder} backend=store mailbox=%1h/%u protocol=cxpop"}}})
    script.unlink()


def login(proxy: Daemon, user: str, password: str) -> bytes:
    """Return the answer to a login."""
    with PopClient(proxy.endpoint()) as client:
        return client.login(user, password)


def test_a_worker_asks_pam(proxy: Daemon) -> None:
    assert login(proxy, "joe", "s3cret").startswith(b"+OK")
    assert login(proxy, "joe", "secret").startswith(b"-ERR [AUTH]")
    assert login(proxy, "ann", "s3cret").startswith(b"-ERR [AUTH]")
    assert [line.split("why=")[1] for line in proxy.log_lines("login_refused")] == ["'Authentication failure'"] * 2


def test_a_worker_that_pam_keeps_is_replaced(proxy: Daemon) -> None:
    for _ in range(3):
        assert login(proxy, "slow", "s3cret").startswith(b"-ERR [SYS/TEMP]")
        assert login(proxy, "joe", "s3cret").startswith(b"+OK")
