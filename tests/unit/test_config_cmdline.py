"""The command line: what wins over what, and how wrong usage ends."""

import os
import re

import pytest

from popular.config.cmdline import Startup, conf_path, metavar, read_config
from popular.config.kinds import Bool, Dir, File, Float, Int, String
from popular.config.mistakes import ConfigError
from popular.config.setting import ObjectClass, Schema, Setting
from popular.config.store import default_config
from popular.version import VERSION

SCHEMA = Schema("pproxy", (
    Setting("rundir", Dir(), "/var/run/popular", "Run directory.", readonly=True, option=("-r", "--rundir")),
    Setting("logfile", File(), "/var/log/popular/pproxy", "Log file, 100% of it.", option=("-l", "--logfile")),
    Setting("debug", Bool(), False, "Debug.", option=("--debug",)),
    Setting("fork", Int(0, 64), 0, "Extra processes.", option=("-f", "--fork")),
    Setting("maxerrors", Int(1, 1000), 25, "No option."),
), (ObjectClass("vserv", "Virtual servers.", (Setting("banner", String(), "", "Text."),)),))
WITH_HOST = Schema("pcheckd", (Setting("host", String(), "0.0.0.0", "Address.", option=("-h", "--host")),),
                   foreground=("--foreground", "--nodeamon"))


def start(tmp_path, *argv: str) -> Startup:
    return read_config(SCHEMA, argv, str(tmp_path / "pproxy.conf"))


def test_no_file_and_no_option_means_defaults(tmp_path):
    found = start(tmp_path)
    assert found == Startup(default_config(SCHEMA), foreground=False, check=False, print=False, ready_fd=None,
                            config_path=f"{tmp_path}/pproxy.conf")


def test_default_then_file_then_option(tmp_path):
    (tmp_path / "pproxy.conf").write_text("[pproxy]\nfork = 2\nmaxerrors = 7\n[vserv]\n[[a]]\n")
    found = start(tmp_path, "-f", "3").config
    assert (found.variables["fork"], found.variables["maxerrors"], found.variables["debug"]) == (3, 7, False)
    assert found.item("vserv", "a") is not None


@pytest.mark.parametrize("argv, name, value", [
    pytest.param(["--fork", "3"], "fork", 3, id="long"),
    pytest.param(["--fork=3"], "fork", 3, id="long-equals"),
    pytest.param(["-f3"], "fork", 3, id="short-joined"),
    pytest.param(["-f", "3", "-f", "4"], "fork", 4, id="last-wins"),
    pytest.param(["--debug"], "debug", True, id="bool"),
    pytest.param(["-l", "/x/y"], "logfile", "/x/y", id="file"),
    pytest.param(["-r", "/"], "rundir", "/", id="read-only"),
])
def test_options_of_rows(tmp_path, argv, name, value):
    assert start(tmp_path, *argv).config.variables[name] == value


def test_common_options(tmp_path):
    found = start(tmp_path, "--foreground", "--check-config", "--print-config", "--ready-fd", "7")
    assert (found.foreground, found.check, found.print, found.ready_fd) == (True, True, True, 7)


def test_names_become_absolute_before_any_chdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "my.conf").write_text("[pproxy]\nfork = 9\n")
    found = read_config(SCHEMA, ["-c", "my.conf", "-r", "run", "-l", "log"], "/nowhere/pproxy.conf")
    assert found.config_path == f"{tmp_path}/my.conf"
    assert found.config.variables["fork"] == 9
    assert found.config.variables["rundir"] == f"{tmp_path}/run"
    assert found.config.variables["logfile"] == f"{tmp_path}/log"


def test_the_file_of_an_option_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="nothing.conf: No such file or directory"):
        start(tmp_path, "-c", f"{tmp_path}/nothing.conf")


def test_a_default_file_that_is_a_dangling_link_is_a_mistake(tmp_path):
    os.symlink("gone", tmp_path / "pproxy.conf")
    with pytest.raises(ConfigError, match="No such file or directory"):
        start(tmp_path)


def test_mistakes_of_the_file_come_beside_the_rest(tmp_path):
    path = tmp_path / "pproxy.conf"
    path.write_text("[pproxy]\nfork = 99\nmaxerrors = 0\nlogfile = /x\n")
    found = start(tmp_path, "-l", "/y")
    assert [str(mistake) for mistake in found.mistakes] == [
        f"{path}: line 2: [pproxy] fork: '99' is not between 0 and 64",
        f"{path}: line 3: [pproxy] maxerrors: '0' is not between 1 and 1000"]
    assert found.places == {"[pproxy] fork": f"{path}: line 2", "[pproxy] maxerrors": f"{path}: line 3"}


@pytest.mark.parametrize("argv, lines", [
    pytest.param(["--nonsense"], ["pproxy: unrecognized arguments: --nonsense"], id="unknown"),
    pytest.param(["--fo", "3"], ["pproxy: unrecognized arguments: --fo 3"], id="abbreviation"),
    pytest.param(["word"], ["pproxy: unrecognized arguments: word"], id="word"),
    pytest.param(["-f"], ["pproxy: argument -f/--fork: expected one argument"], id="no-value"),
    pytest.param(["-f", "99"], ["pproxy: -f/--fork: fork: '99' is not between 0 and 64"], id="value"),
    pytest.param(["-l", ""], ["pproxy: -l/--logfile: logfile: '' is not a file name"], id="empty-name"),
    pytest.param(["-f", "x", "-r", "/no/such"],
                 ["pproxy: -f/--fork: fork: 'x' is not a whole number from 0 to 64",
                  "-r/--rundir: rundir: '/no/such' is not a directory that exists"], id="two-mistakes"),
    pytest.param(["--ready-fd", "-1"],
                 ["pproxy: argument --ready-fd: '-1' is not the number of an open descriptor"], id="fd-sign"),
    pytest.param(["--ready-fd", "x"],
                 ["pproxy: argument --ready-fd: 'x' is not the number of an open descriptor"], id="fd"),
    pytest.param(["-l", "a\udcff\n"], [r"pproxy: -l/--logfile: logfile: '/a\udcff\n' is not a file name"],
                 id="not-utf8"),
])
def test_wrong_usage_ends_with_64_before_the_file_is_read(tmp_path, monkeypatch, capsys, argv, lines):
    monkeypatch.chdir("/")
    (tmp_path / "pproxy.conf").write_text("rubbish")
    with pytest.raises(SystemExit) as caught:
        start(tmp_path, *argv)
    assert caught.value.code == 64
    assert capsys.readouterr().err.splitlines() == ["usage: pproxy [OPTION]...", *lines, "Try 'pproxy --help'."]


def test_help_and_version(tmp_path, capsys):
    for argv, wanted in (["--help"], "Log file, 100% of it."), (["-h"], "--check-config"), (["--version"], VERSION):
        with pytest.raises(SystemExit) as caught:
            start(tmp_path, *argv)
        assert caught.value.code == 0
        assert wanted in capsys.readouterr().out


def test_spec_3_1_h_is_the_host_and_help_has_its_long_name_only(tmp_path, capsys):
    found = read_config(WITH_HOST, ["-h", "127.0.0.1", "--nodeamon"], f"{tmp_path}/pcheckd.conf")
    assert found.config.variables["host"] == "127.0.0.1"
    assert found.foreground
    with pytest.raises(SystemExit):
        read_config(WITH_HOST, ["--help"], f"{tmp_path}/pcheckd.conf")
    # The first HOST is missing from Python 3.13 on.
    assert re.search("-h( HOST)?, --host HOST", text := capsys.readouterr().out)
    assert "-h, --help" not in text


@pytest.mark.parametrize("kind, word", [(Int(0, 1), "NUM"), (Float(0, 1), "NUM"), (Dir(), "DIR"), (String(), "HOST")])
def test_placeholders(kind, word):
    assert metavar(Setting("host", kind, 0, "")) == word


def test_spec_1_1_placeholder_of_a_directory_that_need_not_exist():
    assert metavar(Setting("rundir", File(), "/x", "")) == "DIR"


def test_spec_0_4_where_the_default_file_is():
    assert conf_path("pserv") == "/etc/popular/pserv.conf"
