"""Everything that can be known of a configuration is told at once; a daemon on which nobody can call says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.certificates import Authority
from tests.harness.daemon import ROOT, ini_text
from tests.system import test_check_config
from tests.system.test_check_config import check, end, run, settings

IS_ROOT = os.geteuid() == 0
folder = test_check_config.folder


def test_what_can_be_known_is_told_at_once_with_its_line(folder: Path, authority: Authority) -> None:
    (folder / "users").unlink()
    path = folder / "pproxy.conf"
    pair = authority.sign("a.example.org")
    text = f"""[pproxy]
rundir = {folder}/run
logfile = {folder}/log/pproxy
user = {'root' if IS_ROOT else ''}
maxsesion = 3
minspare = many
authtimeout = 1 hour
[vserv]
[[main]]
adress = 127.0.0.1:0
tls = implicit
[[second]]
address = 127.0.0.1:0
tls = implicit
certificate = {pair.certificate}
key = {folder}/no.key
[pdm]
[[users]]
module = passwd
args = {folder}/users
[[others]]
module = passwd
[[strange]]
module = strange
[backend]
[[store]]
protocol = xpop
address = 127.0.0.1:1
tls = starttls
"""
    done = run(folder, text, "--check-config")
    assert done.returncode == 78
    modules = ROOT / "pdm_modules"
    assert done.stderr.splitlines() == [f"pproxy: {path}: line {line}" for line in (
        "5: [pproxy]: unknown key 'maxsesion'; did you mean 'maxsession'?",
        "6: [pproxy] minspare: 'many' is not a whole number from 1 to 1000",
        "7: [pproxy] authtimeout: '1 hour' is not a time; write 1h",
        "10: [vserv] main: unknown key 'adress'; did you mean 'address'?",
        "29: [backend] store: tls: tls = starttls needs protocol = pop3, since no other has STLS; write implicit",
        "21: [pdm] others: module passwd: 'args' is missing: the users file",
        f"23: [pdm] strange: {modules}/pdm_strange.py: No such file or directory",
        "9: [vserv] main: tls = implicit needs 'certificate'",
        f"12: [vserv] second: key {folder}/no.key: No such file or directory",
        f"18: [pdm] users: module passwd: {folder}/users: No such file or directory",
    )]


@pytest.mark.parametrize("program, text, told", [
    pytest.param("pproxy", "", "there is no [vserv]: no port is open until control commands add a vserv", id="pproxy"),
    pytest.param("pserv", "", "there is no [server]: no port is open until control commands add a server", id="pserv"),
    pytest.param("pserv", "[server]\n[[main]]\naddress = 127.0.0.1:0\nenabled = off\n",
                 "every [server] is off: no port is open until control commands add a server", id="disabled"),
    pytest.param("plmtpd", "", "there is no [server]: no port is open until control commands add a server",
                 id="plmtpd"),
])
def test_a_daemon_on_which_nobody_can_call_says_so(folder: Path, program: str, text: str, told: str) -> None:
    text = ini_text({program: settings(folder, program)[program]}) + text
    path = folder / f"{program}.conf"
    assert check(folder, text, program=program) == (0, [f"warning: {path}: {told}"])
    start_in_doubt(folder, text, [f"{path}: {told}"], program)


def start_in_doubt(folder: Path, text: str, told: list[str], program: str = "pproxy") -> None:
    """Start a daemon that says what is doubtful, on standard error and in its log, and end it."""
    done = run(folder, text, program=program)
    try:
        assert (done.returncode, done.stderr.splitlines()) == (0, [f"{program}: warning: {line}" for line in told])
        logged = (folder / f"log/{program}").read_text()
        assert logged.count("ADM 0230 start_doubtful") == len(told)
    finally:
        end(folder, program)


STORE = "[backend]\n[[store]]\nprotocol = xpop\naddress = 127.0.0.1:1\n"
ANY = "[pdm]\n[[all]]\nmodule = any\nargs = store %u\n"
PASSWD = "[pdm]\n[[all]]\nmodule = passwd\nargs = /etc/passwd\n"
MAIN = "[vserv]\n[[main]]\naddress = 127.0.0.1:0\n"


def test_a_policy_server_without_a_nonce_is_told_once(folder: Path) -> None:
    text = ini_text({"pproxy": settings(folder)["pproxy"]}) + "policyurl = http://127.0.0.1:1/\n" + MAIN + STORE + ANY
    assert run(folder, text, "--check-config").stderr.splitlines() == [
        "pproxy: [pproxy] policynoncefile: is needed for the policyurl 'http://127.0.0.1:1/'"]


@pytest.mark.parametrize("text, code, told", [
    pytest.param(MAIN, 0, ["{}: there is no [backend]: nobody can log in before a command adds one",
                           "{}: there is no [pdm]: nobody can log in before a command adds one"],
                 id="neither backend nor module"),
    pytest.param(MAIN + ANY, 0, ["{}: there is no [backend]: nobody can log in before a command adds one"],
                 id="no backend"),
    pytest.param(MAIN + STORE, 0, ["{}: there is no [pdm]: nobody can log in before a command adds one"],
                 id="no module"),
    pytest.param(MAIN + STORE + ANY.replace("store", "stroe"), 78, [
        "{}: line 13: [pdm] all: module any: no backend 'stroe' is configured; did you mean 'store'?"], id="any"),
    pytest.param(MAIN + "plaintextauth = off\n" + STORE + ANY, 78, [
        "{}: line 8: [vserv] main: plaintextauth: plaintextauth = off takes passwords under TLS only, and tls is off: "
        "nobody can log in"], id="plaintextauth"),
    pytest.param("maxsession = 20\nsessionlimit = 10\n" + MAIN + STORE + ANY, 0, [
        "{}: line 5: [pproxy] maxsession: maxsession = 20 is more than sessionlimit: there can be 10 sessions"],
        id="maxsession"),
    pytest.param("sessionlimit = 10\n" + MAIN + STORE + ANY, 0, [], id="sessionlimit alone"),
    pytest.param(MAIN + "saslmechanisms = plain, xoauth2, scram-sha-1\n" + STORE + ANY, 0, [
        "{}: line 8: [vserv] main: saslmechanisms: no database module for namespace default can check XOAUTH2, "
        "SCRAM-SHA-1"], id="mechanisms"),
    pytest.param(MAIN + "saslmechanisms = external, apop\nplaintextauth = off\n" + STORE + PASSWD, 0, [
        "{}: line 8: [vserv] main: saslmechanisms: EXTERNAL needs 'clientca' and 'tls'"], id="mechanisms without TLS"),
    pytest.param(MAIN + STORE.replace("xpop", "pop3\ntls = implicit\nauth = xoauth2") + PASSWD, 0, [
        "{}: line 12: [backend] store: auth: no database module gives tokens for it: only clients that show one can "
        "log in"], id="no tokens"),
    pytest.param(MAIN + "certificate = x.pem\ntlsciphers = AES\n" + STORE + "verify = off\n" + ANY, 0, [
        "{}: line 8: [vserv] main: certificate: 'certificate' is not used, because tls is off",
        "{}: line 9: [vserv] main: tlsciphers: 'tlsciphers' is not used, because tls is off",
        "{}: line 14: [backend] store: verify: 'verify' is not used, because tls is off"], id="tls is off"),
])
def test_what_would_surprise_is_told_with_its_line(folder: Path, text: str, code: int, told: list[str]) -> None:
    text = ini_text({"pproxy": settings(folder)["pproxy"]}) + text
    told = [line.format(folder / "pproxy.conf") for line in told]
    done = run(folder, text, "--check-config")
    sign = "" if code else "warning: "
    assert (done.returncode, done.stderr.splitlines()) == (code, [f"pproxy: {sign}{line}" for line in told])
    start_in_doubt(folder, text, told)


@pytest.mark.parametrize("names, hint", [
    pytest.param([], "", id="none"),
    pytest.param(["pserv.conf", "pclean.conf"], "", id="of others"),
    pytest.param(["pproxy.cfg"], "; did you mean {}/pproxy.cfg?", id="near"),
])
def test_a_file_that_is_missing_at_the_default_place(folder: Path, names: list[str], hint: str) -> None:
    place = folder / "etc"
    place.mkdir()
    for name in names:
        (place / name).touch()
    options = ["--rundir", str(folder / "run"), "--logfile", str(folder / "log/pproxy")]
    code = ("import sys, popular.config.cmdline as cmdline; cmdline.CONFDIR = sys.argv.pop(1); "
            "from popular.pproxy.main import main; sys.exit(main())")
    words = [sys.executable, "-c", code, str(place), "--check-config", *options]
    done = subprocess.run([*words, *(["-u", "root"] if IS_ROOT else [])], capture_output=True, text=True, timeout=60,
                          check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (
        0, f"pproxy: warning: {place}/pproxy.conf: no such file, and nothing is configured: no port is open until "
        f"control commands add a vserv{hint.format(place)}\n")
