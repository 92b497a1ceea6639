"""The module exec in a running pproxy: programs belong to PDM workers, come back when they die, and end with them."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import store
from tests.harness.system import descendants_of, is_alive, parent_of, title_of, wait_for

EXAMPLE = ROOT / "etc/examples/exec/users-from-json"


def test_programs_of_workers(start: Callable[..., Daemon], tmp_path: Path) -> None:
    users, script = tmp_path / "users", tmp_path / "program"
    row = {"user": "joe", "password": "{PLAIN}secret", "backend": "store", "mailbox": "joe"}
    users.write_text(f"{json.dumps(row)}\n")
    script.write_text(f"#!/bin/sh\necho 'it begins' >&2\nexec {sys.executable} -ISB {EXAMPLE} {users}\n")
    for path, mode in ((tmp_path, 0o755), (users, 0o644), (script, 0o755)):
        path.chmod(mode)
    proxy = start("pproxy", {
        "pproxy": {"authdelay": 0, "softfail": "on", "pdmworkers": 1}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)), "pdm": {"users": {"module": "exec", "args": f"program={script}"}}})

    def login(user: str, password: str) -> bytes:
        with PopClient(proxy.endpoint()) as client:
            return client.login(user, password)

    def program() -> int:
        [pid] = [pid for pid in descendants_of(proxy.pid) if str(EXAMPLE) in title_of(pid)]
        return pid

    assert login("joe", "secret").startswith(b"+OK") and login("joe", "wrong").startswith(b"-ERR [AUTH]")
    first = program()
    assert parent_of(first) != proxy.pid
    assert login("joe", "secret").startswith(b"+OK") and program() == first
    os.kill(first, signal.SIGKILL)
    assert login("joe", "secret").startswith(b"+OK") and program() != first
    users.write_text("{}\n")
    assert login("joe", "secret").startswith(b"-ERR [SYS/TEMP]")
    last = program()
    proxy.stop()
    wait_for(lambda: not is_alive(last), 5.0, "the end of the program")
    assert "it begins" in "\n".join(proxy.log_lines("pdm_output"))
