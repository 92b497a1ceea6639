"""Database modules that hang or break, as a client and an administrator meet them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import store
from tests.harness.system import title_of, wait_for

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
    proxy = start_odd(start, tmp_path, deed)
    client = pop(proxy.endpoint())
    assert client.login("joe", "open sesame").startswith(b"-ERR [SYS/TEMP] ")
    assert client.ok("NOOP") == b"", "the client may try again"
    [line] = proxy.wait_log("login_failed")
    assert why in line
    assert "sesame" not in "".join(proxy.log_lines())


def test_a_child_that_cut_a_module_off_sleeps_until_the_next_client(
        start: Callable[..., Daemon], pop: Callable[..., PopClient], tmp_path: Path) -> None:
    proxy = start_odd(start, tmp_path, HANGS, maxuse=10, maxsession=1, minspare=1, maxspare=1)
    client = pop(proxy.endpoint())
    assert client.login("joe", "open sesame").startswith(b"-ERR [SYS/TEMP] ")
    client.ok("QUIT")
    [child] = [pid for pid in proxy.children() if not title_of(pid).endswith("screen")]    # the pool was full
    wait_for(lambda: title_of(child).endswith(" idle"))
    before = cpu_seconds(child)
    time.sleep(0.5)
    assert cpu_seconds(child) - before < 0.2


def start_odd(start: Callable[..., Daemon], folder: Path, deed: str, **variables: object) -> Daemon:
    """Start a pproxy with one module, which does `deed`."""
    os.chmod(folder, 0o755)
    module = folder / "pdm_odd.py"
    module.write_text(MODULE.format(deed=deed))
    module.chmod(0o644)
    return start("pproxy", {
        "pproxy": {"pdmdir": folder, "pdmtimeout": "200ms", "authdelay": 0, **variables},
        "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)), "pdm": {"odd": {"module": "odd"}},
    })


def cpu_seconds(pid: int) -> float:
    """Return what CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
