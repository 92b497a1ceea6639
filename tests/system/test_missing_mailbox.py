"""Users without a mailbox, through the whole system: what they hear, what is made, and what the logs say of it."""

from pathlib import Path

import pytest

from popular.config.cmdline import read_config
from popular.config.mistakes import Mistake
from popular.pcheckd import main as pcheckd
from popular.pcheckd.settings import SCHEMA
from tests.harness.metrics import scrape, where
from tests.harness.popclient import PopClient
from tests.harness.site import MailSite, record

RECORDS = [record("casper", "pw", "cxpop", "c/casper"), record("xenia", "pw", "xpop", "x/xenia")]
EMPTY = b"+OK 0 messages (0 octets)"
REFUSED = b"-ERR [SYS/PERM] no such mailbox"

# What `missing` says; then for each user: the answer to PASS, and what the session leaves in the logs, in order.
OUTCOMES = [
    pytest.param("empty", EMPTY, {"casper": ["mailbox_empty"], "xenia": ["mailbox_missing"]}, id="empty"),
    pytest.param("create", EMPTY, {"casper": ["no_mailbox", "mailbox_made"], "xenia": ["mailbox_made"]}, id="create"),
    pytest.param("refuse", REFUSED, {"casper": ["no_mailbox", "mailbox_missing"], "xenia": ["mailbox_missing"]},
                 id="refuse"),
]


@pytest.mark.parametrize(("missing", "answer", "events"), OUTCOMES)
def test_both_sides_agree(rundir: Path, spool: Path, missing: str, answer: bytes, events: dict[str, list[str]]) -> None:
    variables: dict[str, dict[str, object]] = {
        "pserv": {"missing": missing}, "pcheckd": {"missing": missing}, "pproxy": {"metrics": "127.0.0.1:0"}}
    with MailSite(rundir, spool, RECORDS, variables=variables) as site:
        for user, wanted in events.items():
            with PopClient(site.pproxy.endpoint("main")) as client:
                assert client.login(user, "pw") == answer
                assert (client.command("STAT") == b"+OK 0 0") is (answer == EMPTY)
                client.ok("QUIT")
            for event in wanted:
                daemon = site.pserv if event in ("mailbox_missing", "mailbox_made") else site.pproxy
                assert " INF " in daemon.wait_log(f" {event} ")[-1]
        for daemon in (site.pproxy, site.pserv, site.pcheckd):
            assert [line for line in daemon.log_lines(" ADM ") if "runs_as_root" not in line] == []
        found = scrape(where(site.pproxy)).by("mail_checks_total", "result")
        assert found == {"empty": missing == "empty", "missing": missing != "empty", "old_mail": 0, "new_mail": 0,
                         "overloaded": 0, "failed": 0, "skipped": 0}
    assert (spool / "c/casper/new").is_dir() is (spool / "x/xenia/new").is_dir() is (missing == "create")


@pytest.mark.parametrize(("own", "text", "wanted"), [
    pytest.param("", None, None, id="nobody-says"),
    pytest.param("", "[pserv]\n", None, id="pserv-does-not-say"),
    pytest.param("", "[pserv]\nmissing = refuse # so\n[server]\n[[main]]\naddress = :1\n", "refuse", id="pserv"),
    pytest.param("", "[pserv]\nmissing = 'create'\n", "create", id="in-quotes"),
    pytest.param("empty", "[pserv]\nmissing = refuse\n", "empty", id="its-own-file-wins"),
    pytest.param("", "[pserv\nmissing = refuse\n", None, id="a-file-that-pserv-will-complain-of"),
    pytest.param("", "pserv = missing\n", None, id="no-section"),
    pytest.param("", b"[pserv]\nmissing = \xff\n", None, id="no-text"),
])
def test_pcheckd_does_what_pserv_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str,
                                         text: str | bytes | None, wanted: str | None) -> None:
    config, mistakes = resolved(tmp_path, monkeypatch, own, text)
    assert (config.variables.optional_text("missing"), mistakes) == (wanted, [])


def test_a_wrong_word_for_pserv_is_a_mistake_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, mistakes = resolved(tmp_path, monkeypatch, "", "[pserv]\nmissing = nothing\n")
    assert [str(mistake) for mistake in mistakes] == [
        f"{tmp_path}/pserv.conf: [pserv] missing: 'nothing' is not one of empty, create, refuse"]


def resolved(folder: Path, monkeypatch: pytest.MonkeyPatch, own: str, text: str | bytes | None):
    """Return the configuration of a pcheckd as its starter completes it, and what is wrong."""
    monkeypatch.setattr(pcheckd, "conf_path", lambda program: str(folder / f"{program}.conf"))
    (folder / "pcheckd.conf").write_text(f"[pcheckd]\nmailboxdir = {folder}\nhost = 127.0.0.1\nmissing = {own}\n")
    if text is not None:
        (folder / "pserv.conf").write_bytes(text if isinstance(text, bytes) else text.encode())
    mistakes: list[Mistake] = []
    startup = read_config(SCHEMA, ["-c", str(folder / "pcheckd.conf")], "")
    return pcheckd.prepare(startup.config, mistakes), mistakes
