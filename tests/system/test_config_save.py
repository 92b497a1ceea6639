"""A limit that was changed live is made permanent: pcontrol writes it into the INI file of a running proxy."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.config.changes import Change, Told
from popular.config.ini.file import read_ini
from popular.config.ini.text import quote
from popular.config.kinds import MAX_TEXT
from popular.config.store import default_config
from popular.errors import UsageError
from popular.pproxy.settings import SCHEMA
from popular.tools.pcontrol import save as pcontrol_save
from popular.unix.rights import Peer
from tests.harness.control import refused, tell, variable
from tests.harness.daemon import Daemon
from tests.harness.proxy import start_proxy, store
from tests.harness.tools import run_tool

Start = Callable[..., Daemon]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def pcontrol(daemon: Daemon, *commands: str) -> "subprocess.CompletedProcess[str]":
    """Run pcontrol to its end."""
    words = [word for command in commands for word in ("-c", command)]
    return run_tool("pcontrol", "-r", daemon.rundir, *words)


@pytest.fixture
def proxy(start: Start, rundir: Path) -> Daemon:
    """A proxy with comments in its file."""
    daemon = start_proxy(start, rundir, store(Endpoint("127.0.0.1", 1)), maxerrors=7)
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("maxerrors = 7", "maxerrors = 7    # for old phones"))
    tell(daemon, "reload")
    return daemon


def test_a_limit_that_was_changed_live_is_made_permanent(proxy: Daemon) -> None:
    text = proxy.config.read_text()
    done = pcontrol(proxy, "show config changed")
    assert (done.returncode, done.stdout) == (0, "nothing differs from the INI file\n")
    tell(proxy, "set maxerrors 9", "backend set store softfail=off", "backend drain store")
    done = pcontrol(proxy, "show config changed")
    assert done.stdout == ("[pproxy]\nmaxerrors = 9\n[backend]\n    [[store]]\n    drain = on\n    softfail = off\n")
    done = pcontrol(proxy, "config save")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"saved in {proxy.config}" in done.stdout
    assert proxy.config.read_text() == text.replace("maxerrors = 7    #", "maxerrors = 9    #").replace(
        "    address = 127.0.0.1:1\n", "    address = 127.0.0.1:1\n    drain = on\n    softfail = off\n")
    assert Path(f"{proxy.config}.old").read_text() == text
    assert pcontrol(proxy, "show config changed").stdout == "nothing differs from the INI file\n"
    assert "nothing to save" in pcontrol(proxy, "config save").stdout
    # now it is the file's, and follows it
    proxy.config.write_text(proxy.config.read_text().replace("maxerrors = 9", "maxerrors = 8"))
    assert tell(proxy, "reload")[0].lines == ("variable maxerrors",)
    assert variable(proxy, "maxerrors") == "8"


def test_a_value_of_the_file_that_is_not_used_is_told_as_an_error(proxy: Daemon) -> None:
    tell(proxy, "set maxerrors 9")
    done = pcontrol(proxy, "reload")
    assert (done.returncode, done.stdout) == (
        0, "reloaded, no setting changed; values of the file that are not used: 1\n")
    assert done.stderr.startswith("warning: maxerrors: '7' in the file is not used")


def test_a_file_that_was_edited_meanwhile_is_left_alone(proxy: Daemon) -> None:
    tell(proxy, "set maxerrors 9")
    edited = proxy.config.read_text() + "# somebody is writing here\n"
    proxy.config.write_text(edited)
    done = pcontrol(proxy, "config save")
    assert done.returncode == 1
    assert "was changed after the daemon read it" in done.stderr
    assert proxy.config.read_text() == edited
    assert pcontrol(proxy, "reload", "config save").returncode == 0
    assert "maxerrors = 9" in proxy.config.read_text()


@pytest.mark.parametrize("commands", [[], ["set maxerrors 9"]], ids=["nothing changed", "changed"])
def test_a_file_that_is_broken_is_not_said_to_be_in_force(proxy: Daemon, commands: list[str]) -> None:
    broken = proxy.config.read_text().replace("maxerrors = 7", "maxerrors = many")
    proxy.config.write_text(broken)
    done = pcontrol(proxy, *commands, "config save")
    assert (done.returncode, done.stdout) == (1, "")
    assert "[pproxy] maxerrors: 'many' is not a whole number from 1 to 1000" in done.stderr
    assert f"{proxy.config} cannot be read; nothing was written" in done.stderr
    proxy.config.unlink()
    assert f"{proxy.config}: No such file or directory" in pcontrol(proxy, "config save").stderr


def test_after_an_upgrade_the_file_is_still_known(proxy: Daemon) -> None:
    tell(proxy, "set maxerrors 9")
    assert pcontrol(proxy, "upgrade").returncode == 0
    assert pcontrol(proxy, "config save").returncode == 0
    assert "maxerrors = 9    # for old phones" in proxy.config.read_text()


def test_the_longest_arguments_of_a_database_module(proxy: Daemon) -> None:
    words = ["/users.db", "SELECT 'it\\x22s #' AS backend, :user AS password -- "]
    words[1] += "\U0001f4ec" * (MAX_TEXT - len(shlex.join(words)))    # each of them four octets
    longest = shlex.join(words)
    text = proxy.config.read_text()
    proxy.config.write_text(f"{text}\n    [[ini]]\n    module = sqlite\n    args = {quote(longest)}\n")
    done = pcontrol(proxy, "reload", f"pdm add command sqlite {longest}", "config save", "show config changed")
    assert (done.returncode, done.stderr) == (0, "warning: command: No such file or directory: /users.db\n")
    assert done.stdout.endswith("nothing differs from the INI file\n")
    config = read_ini(str(proxy.config), SCHEMA, default_config(SCHEMA))
    added = [item.values["args"] for item in config.items("pdm") if item.ident != "users"]
    assert added == [longest, longest] and len(longest) == MAX_TEXT
    [reply] = tell(proxy, "pdm list")
    assert [shlex.split(line)[2:] for line in reply.lines[1:]] == [words, words]
    assert "at most 4096 characters" in refused(proxy, f"pdm add command sqlite {longest}x").text


def test_the_daemon_itself_does_not_save(proxy: Daemon) -> None:
    assert "only pcontrol saves" in refused(proxy, "config save").text
    assert tell(proxy, "config changes")[0].lines[0].startswith("{")


@needs_root
def test_root_writes_for_another_user_where_only_root_can_write(rundir: Path) -> None:
    """And else with that user's rights, for a daemon that was broken into may name any file."""
    file = rundir / "pproxy.conf"
    file.write_text("[pproxy]\nmaxerrors = 7\n")
    told = Told("pproxy", str(file), "", (Change("pproxy", "", {"maxerrors": "9"}),))
    nobody = Peer(1, 65534)

    def writes_as() -> int:
        with pcontrol_save._rights(told, SCHEMA, nobody):
            return os.geteuid()

    assert writes_as() == 0
    file.write_text("# somebody's empty file\n")
    with pytest.raises(UsageError, match="has no settings yet"):
        writes_as()
    file.write_text("# settings come by commands\n[pproxy]\n")
    assert writes_as() == 0
    os.chown(file, 65534, 0)
    assert writes_as() == 65534
    os.chown(file, 0, 0)
    rundir.chmod(0o777)
    assert writes_as() == 65534
    assert os.geteuid() == 0


@needs_root
def test_whoever_may_not_write_is_told_what_to_do(rundir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert "user nobody may not write" in pcontrol_save._hint(Told("pproxy", "/etc/x.conf", "", ()))
