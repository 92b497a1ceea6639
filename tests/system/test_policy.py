"""The policy server that is asked about logins, with a real pproxy; tests/unit/test_pproxy_policy.py has the JSON."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popular.addresses import Endpoint
from tests.harness.control import tell
from tests.harness.daemon import Daemon
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.metrics import scrape, where
from tests.harness.needs import lacking, need_module
from tests.harness.policy import NONCE, PolicySite
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, LOST, PASSWORD, XENIA, StartProxy, store
from tests.harness.pstatus import state_file, status
from tests.harness.system import descendants_of, title_of, wait_for

need_module("urllib3")

NOWHERE = Endpoint("127.0.0.1", 1)    # so that all users see an empty mailbox
WRONG = b"-ERR [AUTH] Authentication failed"
KEY = "key of the policy server"

Pop = Callable[..., PopClient]


@pytest.fixture
def site() -> Iterator[PolicySite]:
    with PolicySite() as site:
        yield site


@pytest.fixture
def daemon(proxy: StartProxy, site: PolicySite, rundir: Path) -> Daemon:
    """A pproxy whose virtual server `main` asks, and `other` does not."""
    secrets = {"policynoncefile": NONCE, "policyheaderfile": KEY}
    for name, text in secrets.items():
        (rundir / name).write_text(f"{text}\n")
        (rundir / name).chmod(0o600)
    return proxy(store(NOWHERE), policyurl=site.url, policytimeout="5s", pdmworkers=2, maxauthtries=100,
                 metrics="127.0.0.1:0", **{name: rundir / name for name in secrets},
                 more_vservs={"other": {"address": "127.0.0.1:0", "policyurl": "none"}})


def counts(daemon: Daemon) -> dict[str, float]:
    return dict(scrape(where(daemon)).by("policy_logins_total", "result"))


def workers(daemon: Daemon) -> int:
    return sum(title_of(pid).endswith("pdm worker") for pid in descendants_of(daemon.pid))


def test_what_the_server_hears_and_says(daemon: Daemon, site: PolicySite, pop: Pop) -> None:
    client = pop(daemon.endpoint())
    assert client.login("nobody", "wrong") == WRONG
    for user, password in ((XENIA, "wrong"), (LOST, PASSWORD), ("j\xff", PASSWORD)):
        client.ok(f"USER {user}")
        client.err(f"PASS {password}")
    client.ok(f"USER {XENIA}")
    assert client.command(f"PASS {PASSWORD}").startswith(EMPTY)
    asked, told = site.bodies("allow", 5), site.bodies("report", 5)
    [sid] = {body["session_id"] for body in asked + told}
    assert sid.startswith("px-") and sid == pop_sid(daemon)
    assert [(body["login"], body["fail_type"], body["success"], body["policy_reject"]) for body in told] == [
        ("nobody", "account", False, False), (XENIA, "credentials", False, False), (LOST, "internal", False, False),
        ("j\ufffd", "account", False, False), (XENIA, "", True, False)]
    for before, after in zip(asked, told, strict=True):
        assert {**before, **{name: after[name] for name in ("success", "policy_reject", "fail_type")}} == after
        assert (before["remote"], before["protocol"], before["tls"]) == ("127.0.0.1", "pop3", False)
    assert {headers["X-API-Key"] for _, headers, _ in site.told} == {KEY}

    questions = scrape(where(daemon)).get("pdm_questions_total", program="pproxy", pdm="users")
    site.allow(-1, "go away")
    refused = pop(daemon.endpoint())
    assert refused.login(XENIA, PASSWORD) == WRONG
    [body] = site.bodies("report")
    assert (body["success"], body["policy_reject"], body["fail_type"]) == (False, True, "policy")
    assert scrape(where(daemon)).get("pdm_questions_total", program="pproxy", pdm="users") == questions
    [line] = daemon.log_lines("policy_refused")
    assert f"user='{XENIA}'" in line and line.endswith("why='go away'")
    assert pop(daemon.endpoint("other")).login(XENIA, PASSWORD).startswith(EMPTY)
    assert counts(daemon) == {"refused": 1, "failed": 0}
    shown = "\n".join(line for reply in tell(daemon, "show config", "show") for line in reply.lines)
    for secret in (NONCE, KEY, PASSWORD):
        assert secret not in shown + "\n".join(daemon.log_lines()) + json.dumps(status(daemon))
        assert secret.encode() not in state_file(daemon).read_bytes()


def test_a_delay_is_kept_and_cut(daemon: Daemon, site: PolicySite, pop: Pop) -> None:
    tell(daemon, "set policydelay 300ms", "set policyreport off")
    site.allow(1 << 70, "slowly")
    began = time.monotonic()
    assert pop(daemon.endpoint()).login(XENIA, PASSWORD).startswith(EMPTY)
    assert 0.3 <= time.monotonic() - began < 5.0
    assert counts(daemon) == {"refused": 0, "failed": 0}
    assert len(site.told) == 1


def test_without_the_server_logins_go_on(daemon: Daemon, site: PolicySite, pop: Pop) -> None:
    site.allow(-1, body=b"garbage")
    assert pop(daemon.endpoint()).login(XENIA, PASSWORD).startswith(EMPTY)
    tell(daemon, "set policytimeout 100ms")
    site.freeze()
    assert pop(daemon.endpoint()).login(XENIA, PASSWORD).startswith(EMPTY)
    site.close()
    for _ in range(5):
        assert pop(daemon.endpoint()).login(XENIA, PASSWORD).startswith(EMPTY)
    assert pop(daemon.endpoint()).login(XENIA, "wrong") == WRONG
    assert counts(daemon) == {"refused": 0, "failed": 8}
    lines = daemon.log_lines("policy_failed")
    assert len(lines) == 2, "one for each configuration"
    assert lines[0].endswith(f"url='{site.url}' why='its answer is not JSON'")


def test_it_can_be_turned_off_and_on(daemon: Daemon, site: PolicySite, pop: Pop) -> None:
    """PDM workers are there only while somebody asks."""
    wait_for(lambda: workers(daemon) == 2, 10.0, "two PDM workers")
    tell(daemon, "vserv set main policyurl=none")
    wait_for(lambda: workers(daemon) == 0, 10.0, "the end of the PDM workers")
    assert pop(daemon.endpoint()).login(XENIA, PASSWORD).startswith(EMPTY)
    assert site.told == []
    tell(daemon, "vserv set main policyurl=", "set policycheck off")
    site.allow(-1)
    assert pop(daemon.endpoint()).login(XENIA, PASSWORD).startswith(EMPTY)
    [body] = site.bodies("report")
    assert body["success"] and len(site.told) == 1


def pop_sid(daemon: Daemon) -> str:
    """Return the id of the only session in the log."""
    [sid] = {line.split()[5] for line in daemon.log_lines("session_start")}
    return sid


def test_dovecot_tells_the_same(daemon: Daemon, site: PolicySite, pop: Pop, rundir: Path) -> None:
    """What differs: the session, the empty fail_type, which it has since 2.4, and its second question."""
    def told(endpoint: Endpoint) -> list[tuple[str, dict[str, Any]]]:
        site.allow()
        for password in (PASSWORD, "wrong"):
            pop(endpoint).login(XENIA, password)
        site.bodies("report", 2)
        found = [(command, {name: value for name, value in body.items() if name not in ("session_id", "fail_type")})
                 for command, _, body in site.told]
        once = [each for number, each in enumerate(found) if each not in found[:number]]
        return sorted(once, key=lambda each: (each[1]["pwhash"], each[0]))    # nobody waits for a report

    more = f"auth_policy_server_url = {site.url}\nauth_policy_hash_nonce = {NONCE}\nauth_failure_delay = 0\n"
    rundir.chmod(0o755)
    try:
        server = Dovecot.start(rundir / "dovecot", {XENIA: f"{{PLAIN}}{PASSWORD}"}, more=more)
    except NoDovecot as why:
        lacking(f"a Dovecot to use ({why})")
    with server:
        theirs = told(server.endpoint)
    assert len(theirs) == 4 and theirs == told(daemon.endpoint())
