"""Every message of the catalogue is written by some test, in a real log (and so can be written at all).

These tests run after all others, and look at what was found in their logs; see harness/catalogue.py.
"""

import os
from pathlib import Path

import pytest

from tests.harness.catalogue import Seen, files_below, is_full_run, messages_in
from tests.meta.test_messages import rows

# What cannot be provoked here, and why.
OUT_OF_REACH: dict[str, str] = {
    "walls_missing": "a kernel that has all walls", "walls_raised": "a kernel that lacks some",
    "objects_mortal": "a Python that is known",
    **({} if os.geteuid() == 0 else {"runs_as_root": "only root runs as root"})}


def test_every_message_is_written_by_some_test(seen: Seen) -> None:
    unseen = [f"{row.number:04x} {row.level} {row.name} ({owner}.{constant})" for owner, constant, row in rows()
              if (row.number, row.name) not in seen.messages and row.name not in OUT_OF_REACH]
    assert not unseen, "no test writes\n" + "\n".join(sorted(unseen))


def test_what_is_out_of_reach_is_in_the_catalogue() -> None:
    assert set(OUT_OF_REACH) <= {row.name for _, _, row in rows()}


CLASSIC = f"20040821 121929 mx1 pserv {os.getpid()} - INF 0001 start version='2'\n"
JSON = '{"time":"2004","host":"mx1","program":"pserv","pid":1,"session":"-","level":"INF","number":"0002","name":"a"}\n'


@pytest.mark.parametrize(("text", "wanted"), [
    pytest.param(CLASSIC, {(1, "start")}, id="classic"),
    pytest.param(JSON, {(2, "a")}, id="json"),
    pytest.param(CLASSIC + "20040821 12\n" + CLASSIC.replace("0001 start", "00ab end"), {(1, "start"), (0xab, "end")},
                 id="torn"),
    pytest.param("Subject: x\n" + CLASSIC, set(), id="a mail that quotes one"),
    pytest.param(CLASSIC.replace("0001 start", "0000 login line='- INF 0001 start'"), {(0, "login")}, id="in a field"),
    pytest.param("", set(), id="empty"),
])
def test_messages_are_found_in_logs(tmp_path: Path, text: str, wanted: set[tuple[int, str]]) -> None:
    (tmp_path / "log").write_text(text)
    assert {(number, name) for _, number, name in messages_in(tmp_path / "log")} == wanted


def test_own_lines_do_not_count_where_the_log_is_tested(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(CLASSIC + JSON)
    seen = Seen()
    seen.look_through(tmp_path, is_about_logs=True)
    assert seen.messages == {(2, "a")}


def test_mailboxes_are_not_looked_through(tmp_path: Path) -> None:
    for name in ("run/pserv.log", "spool/joe/new/1", "spool/joe/cur/1", "a/b/c/d/e/log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(CLASSIC)
    assert [path.name for path in files_below(tmp_path)] == ["pserv.log"]


@pytest.mark.parametrize(("args", "options", "missing", "wanted"), [
    pytest.param(["tests"], ["", None], (), True, id="all"),
    pytest.param(["tests/unit/test_a.py::test_x", "tests"], [""], (), False, id="one"),
    pytest.param(["tests"], ["word"], (), False, id="by keyword"),
    pytest.param(["tests/unit"], [""], ("test_b.py",), False, id="some files"),
])
def test_what_is_a_full_run(tmp_path: Path, args: list[str], options: list[str], missing: tuple[str, ...],
                            wanted: bool) -> None:
    files = [tmp_path / name for name in ("test_a.py", "test_b.py")]
    for file in files:
        file.touch()
    assert is_full_run(args, options, [file for file in files if file.name not in missing], tmp_path) is wanted
