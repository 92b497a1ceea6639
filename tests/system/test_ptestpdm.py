"""ptestpdm and pmakecdb as administrators run them: options, output, exit codes (spec 7.4)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from popular.paths import pdm_dir
from popular.version import VERSION
from tests.harness.daemon import ROOT
from tests.harness.pdm import make_module, make_request
from tests.harness.tools import run_octets

USERS = """# users of example.org
ann:{PLAIN}pass word:store2:pop3::ann@x:hidden
bad:secret:store1::bad
joe:{PLAIN}secret:store1:cxpop:3/2d/joe
"""
COMMANDS = """
# ID MODULE-NAME [ARGS]...
users passwd '%(dir)s/the users' namespace=example.org
support master "%(dir)s/masterauth.conf"
"""
MASTERAUTH = "127.0.0.1:example.org:{PLAIN}open sesame\n"


def tool(name: str, *options: object) -> tuple[int, str, str]:
    """Run a tool; returns exit code, stdout and stderr."""
    done = run_octets(name, *map(str, options))
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with users, a master file, and commands for both."""
    (tmp_path / "the users").write_text(USERS)
    (tmp_path / "masterauth.conf").write_text(MASTERAUTH)
    (tmp_path / "commands").write_text(COMMANDS % {"dir": tmp_path})
    return tmp_path


def ask(site: Path, data: str | bytes, *options: object) -> tuple[int, list[str], list[str]]:
    """Run ptestpdm on these lines of data; returns exit code and the lines of stdout and stderr."""
    (site / "data").write_bytes(data if isinstance(data, bytes) else data.encode())
    code, out, err = tool("ptestpdm", *options, site / "commands", site / "data")
    assert "hidden" not in out + err and "secret" not in out + err
    return code, out.splitlines(), err.splitlines()


@pytest.mark.parametrize("line, told", [
    ("127.0.0.1 pop3 example.org joe secret", "joe example.org ok users store1 cxpop 3/2d/joe -"),
    ("  127.0.0.1\tpop3  example.org joe secret\r", "joe example.org ok users store1 cxpop 3/2d/joe -"),
    ("::1 pop3 example.org ann pass word", "ann example.org ok users store2 pop3 ann@x -"),
    ("127.0.0.1 pop3 example.org joe open sesame", "joe example.org ok support store1 cxpop 3/2d/joe M"),
    ("127.0.0.2 pop3 example.org joe open sesame", "joe example.org denied users - - - -"),
    ("127.0.0.1 pop3 example.org joe secret ", "joe example.org denied users - - - -"),
    ("127.0.0.1 pop3 example.org zoe secret", "zoe example.org unknown - - - - -"),
    ("127.0.0.1 pop3 example.net joe secret", "joe example.net unknown - - - - -"),
    ("127.0.0.1 pop3 example.org z\x1b]0;\\ secret", "z\\x1b]0;\\x5c example.org unknown - - - - -"),
    (b"127.0.0.1 pop3 example.org z\xc3\xb6\xff secret", "z\\xc3\\xb6\\xff example.org unknown - - - - -"),
])
def test_spec_7_4_a_line_for_every_user(site, line, told):
    assert ask(site, line) == (0, [told], [])


def test_spec_7_4_empty_lines_and_comments_are_allowed_in_both_files(site):
    code, out, err = ask(site, "\n# a comment\n127.0.0.1 pop3 example.org joe secret\n\n   \n"
                               "127.0.0.1 pop3 example.org ann x")
    assert (code, len(out), err) == (0, 2, [])


def test_a_failure_is_told_and_the_others_are_asked(site):
    code, out, err = ask(site, "127.0.0.1 pop3 example.org bad x\nnonsense\n300.0.0.1 pop3 a b c\n"
                               "127.0.0.1 pop3 example.org joe secret")
    assert code == 1
    assert out == ["bad example.org failed users - - - -", "joe example.org ok users store1 cxpop 3/2d/joe -"]
    assert err[0].startswith(f"ptestpdm: {site}/data:1: users: the password is stored in no known form")
    assert err[1:] == [f"ptestpdm: {site}/data:2: must be IP PROTOCOL NAMESPACE USER PASSWORD",
                       f"ptestpdm: {site}/data:3: the first word is not an IP address"]


def test_a_database_that_is_away_is_told(site):
    os.unlink(site / "the users")
    code, out, err = ask(site, "127.0.0.1 pop3 example.org joe secret")
    assert (code, out) == (1, ["joe example.org failed users - - - -"])
    assert err == [f"ptestpdm: {site}/data:1: users: No such file or directory: {site}/the users"]


def test_modules_that_do_not_load_are_all_told_and_nobody_is_asked(site):
    (site / "commands").write_text("a nosuch\nb ../x\nc passwd users\nd\ne passwd 'x\nf/ any s m\ng any s m\n"
                                   f"g any s m\nh sqlite {site}/x 'DELETE'\n")
    code, out, err = ask(site, "127.0.0.1 pop3 example.org joe secret")
    assert (code, out) == (1, [])
    assert [line.removeprefix(f"ptestpdm: {site}/commands:").partition(": ")[0] for line in err] == [
        "1", "2", "3", "4", "5", "6", "8", "9"]
    assert "pdm_nosuch.py: No such file or directory" in err[0]
    assert "users does not begin with /: passwd FILE" in err[2]


def test_spec_7_4_dir_is_the_folder_of_the_modules(site):
    folder = site / "modules"
    folder.mkdir(mode=0o755)
    (folder / "pdm_users.py").write_text(Path(pdm_dir(), "pdm_template.py").read_text())
    (site / "commands").write_text("t users joe secret store1 mb\n")
    (folder / "pdm_users.py").chmod(0o664)
    for option in (["-d", folder], ["--dir", folder], [f"--dir={folder}"]):
        (folder / "pdm_users.py").chmod(0o644)
        assert ask(site, "::1 pop3 n joe secret", *option) == (0, ["joe n ok t store1 - mb -"], [])
        (folder / "pdm_users.py").chmod(0o664)
        code, _, err = ask(site, "::1 pop3 n joe secret", *option)
        assert code == 1 and f"chmod go-w {folder}/pdm_users.py" in err[0]
    assert not (folder / "__pycache__").exists()


def test_spec_7_4_debug_tells_more_and_no_secret(site):
    code, out, err = ask(site, "127.0.0.1 pop3 example.org joe secret\n127.0.0.1 pop3 example.org bad secret",
                         "--debug")
    assert code == 1 and len(out) == 2
    assert f"ptestpdm: debug: module users passwd '{site}/the users' namespace=example.org" in err
    assert any(line.startswith("ptestpdm: debug: pdm_failed module='users' user='bad' why=") for line in err)
    assert sum(f"debug: {site}/data:" in line for line in err) == 2


def test_spec_7_4_help_and_version():
    code, out, err = tool("ptestpdm", "--help")
    assert (code, err) == (0, "") and all(word in out for word in ("COMMAND-FILE", "DATA-FILE", "--dir DIR", "--debug"))
    assert tool("ptestpdm", "--version") == (0, f"ptestpdm {VERSION}\n", "")


@pytest.mark.parametrize("options", [[], ["x"], ["x", "y", "z"], ["--deb", "x", "y"], ["-d"], ["-h"]])
def test_a_wrong_command_line_is_64(options):
    code, out, err = tool("ptestpdm", *options)
    assert (code, out) == (64, "") and err.startswith("usage: ptestpdm")


@pytest.mark.parametrize("missing", ["commands", "data"])
def test_a_missing_file_is_66(site, missing):
    (site / "data").write_text("")
    os.unlink(site / missing)
    code, out, err = tool("ptestpdm", site / "commands", site / "data")
    assert (code, out, err) == (66, "", f"ptestpdm: {site / missing}: No such file or directory\n")


def test_a_reader_that_leaves_is_no_fault(site):
    (site / "data").write_text("127.0.0.1 pop3 example.net joe secret\n" * 3)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, str(ROOT / "bin/ptestpdm"), site / "commands", site / "data"],
                              stdout=writing, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=30)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_pmakecdb_from_stdin_and_the_module_on_it(site):
    users = USERS.replace("bad:secret", "bad:{PLAIN}secret").encode()
    done = subprocess.run([sys.executable, str(ROOT / "bin/pmakecdb"), str(site / "users.cdb")], input=users,
                          timeout=30, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (site / "commands").write_text(f"users cdb {site}/users.cdb\n")
    assert ask(site, "::1 pop3 n joe secret\n::1 pop3 n zoe x")[:2] == (
        0, ["joe n ok users store1 cxpop 3/2d/joe -", "zoe n unknown - - - - -"])


def test_pmakecdb_told_of_a_mistake_leaves_the_database_alone(site):
    assert tool("pmakecdb", site / "users.cdb", site / "the users") == (0, "", "")
    before = (site / "users.cdb").stat()
    (site / "the users").write_text(USERS + "broken\n")
    code, _, err = tool("pmakecdb", site / "users.cdb", site / "the users")
    assert code == 65 and err.startswith(f"pmakecdb: {site}/the users:5: ") and "secret" not in err
    assert (site / "users.cdb").stat() == before


def test_readers_see_the_old_or_the_new_database_while_it_is_replaced(site):
    """One process looks joe up all the time, another replaces the database; no lookup may miss them."""
    text = site / "the users"
    assert tool("pmakecdb", site / "users.cdb", text)[0] == 0
    code = """if True:
        import sys
        from popular.tools import pmakecdb
        print("ready", flush=True)
        while True:
            if pmakecdb.run(sys.argv[1:]):
                sys.exit(1)"""
    writer = subprocess.Popen([sys.executable, "-c", code, site / "users.cdb", text], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        module = make_module("cdb", site / "users.cdb")
        files: set[tuple[int, int]] = set()
        for _ in range(50_000):
            assert module.check(make_request("joe")).found.mailbox == "3/2d/joe"
            status = os.stat(module.path)
            files.add((status.st_ino, status.st_mtime_ns))
            if len(files) > 20:
                break
        assert len(files) > 20 and writer.poll() is None
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
