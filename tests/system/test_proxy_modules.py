"""Database modules that hang or break, as a client and an administrator meet them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import store

HANGS = "import time\n        time.sleep(600)"
BREAKS = "raise RuntimeError('the password is open sesame')"
LIES = "return Answer(Outcome.OK, Found('store', 'imap', 'x'))"

MODULE = """from popular.pdm.api import Answer, Found, Outcome, PdmModule, Request


class Module(PdmModule):
    def check(self, request: Request) -> Answer:
        {deed}
"""


@pytest.mark.parametrize(("deed", "why"), [
    pytest.param(HANGS, "no answer within 0.2 s", id="hangs"),
    pytest.param(BREAKS, "RuntimeError at ", id="breaks"),
    pytest.param(LIES, "invalid answer", id="lies"),
])
def test_a_module_at_fault_is_a_passing_problem_and_no_wrong_password(
        start: Callable[..., Daemon], pop: Callable[..., PopClient], tmp_path: Path, deed: str, why: str) -> None:
    os.chmod(tmp_path, 0o755)
    module = tmp_path / "pdm_odd.py"
    module.write_text(MODULE.format(deed=deed))
    module.chmod(0o644)
    proxy = start("pproxy", {
        "pproxy": {"pdmdir": tmp_path, "pdmtimeout": "200ms", "authdelay": 0},
        "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)), "pdm": {"odd": {"module": "odd"}},
    })
    client = pop(proxy.endpoint())
    assert client.login("joe", "open sesame").startswith(b"-ERR [SYS/TEMP] ")
    assert client.ok("NOOP") == b"", "the client may try again"
    [line] = proxy.wait_log("login_failed")
    assert why in line
    assert "sesame" not in "".join(proxy.log_lines())
