"""The Debian package is built, installed into a system of its own, serves, is upgraded and goes without a trace."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.pdm.libcrypt import crypt
from popular.version import VERSION
from tests.harness.daemon import ROOT
from tests.harness.debian import DebianRoot, build_package, debian_root
from tests.harness.needs import lacking, need_program
from tests.harness.network import own_network
from tests.harness.popclient import PopClient
from tests.harness.system import children_of, end_process, is_alive, reap, title_of, wait_for

DAEMONS = ("pcheckd", "pserv", "pproxy")
POP3 = Endpoint("127.0.0.1", 110)
NEXT = VERSION + "+next1"
MESSAGE = b"Subject: one\r\n\r\nfor joe\r\n"
STAYS = re.compile(r"/pop(/.*)?|/var/log/popular(/.*)?")
# What adduser and dpkg write about themselves, at their first use and at any.
OF_OTHERS = re.compile(r"/etc/(subuid|subgid|passwd|group|shadow|gshadow)-?|/run/adduser|/var/(lib|log)/dpkg.*"
                       r"|/var/lib/systemd(/.*)?|/(run|var/run)/lock.*|/var/cache/debconf/.*")

pytestmark = pytest.mark.limit(300)    # a machine's first run gets a whole system


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this tree."""
    return build_package(tmp_path_factory.mktemp("package"))


@pytest.fixture
def root() -> Iterator[DebianRoot]:
    """A Debian system with ports of its own, in which no process is left."""
    with debian_root() as made:
        try:
            with own_network():
                yield made
        except PermissionError:
            lacking("the right to make a network of its own")
        finally:
            left = made.processes()
            for pid in left:
                end_process(pid)
        assert not left, f"processes left behind: {left}"


@pytest.fixture
def remake(package: Path, tmp_path: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function (version, change) that packs the package anew as another version, after a change to its files."""

    def remade(version: str, change: Callable[[Path], None]) -> Path:
        tree = tmp_path / version
        subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True, timeout=60)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"Version: {VERSION}\n", f"Version: {version}\n"))
        change(tree / "usr/lib/python3/dist-packages/popular")
        target = tmp_path / f"popular_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--build", "-Znone", tree, target], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
        return target

    return remade


def be_newer(popular: Path) -> None:
    """Change the version that the programs tell."""
    file = popular / "version.py"
    file.write_text(file.read_text().replace(f'"{VERSION}"', f'"{NEXT}"'))


def be_broken(popular: Path) -> None:
    """Let no daemon start."""
    with (popular / "daemon/start/starter.py").open("a") as file:
        file.write('raise RuntimeError("not today")\n')


def pids(root: DebianRoot) -> dict[str, int]:
    """Return the running daemons; a test that finds one missing fails."""
    assert [root.run(f"/etc/init.d/{name}", "status").split(",")[0] for name in DAEMONS] == [
        f"{name} is running" for name in DAEMONS]
    return {name: int((root.path / f"run/popular/{name}.pid").read_text()) for name in DAEMONS}


def add_user(root: DebianRoot, name: str, password: str) -> None:
    """Do what README.Debian says."""
    with (root.path / "etc/popular/users").open("a") as file:
        file.write(f"{name}:{crypt(password.encode(), '$6$rounds=1000$saltsalt')}:local::{name}\n")
    root.run("setpriv", "--reuid=pop", "--regid=pop", "--init-groups", "pdeliver", "--create", name, data=MESSAGE)


def uid_of(root: DebianRoot, name: str) -> int:
    """Return the uid of a user of the system."""
    return int(root.run("id", "-u", name))


def owners(root: DebianRoot) -> dict[str, int]:
    """Return the uid of each running daemon."""
    status = {name: Path(f"/proc/{pid}/status").read_text() for name, pid in pids(root).items()}
    return {name: int(text.partition("\nUid:")[2].split()[0]) for name, text in status.items()}


def most_processes(pid: int) -> int:
    """Return the limit of a process for all processes of its user."""
    return int(Path(f"/proc/{pid}/limits").read_text().partition("\nMax processes")[2].split()[0])


def assert_rights_are_few(root: DebianRoot) -> None:
    """Fail if a process has a capability, or a child may start so many processes that its master can start no more."""
    root.run("pcontrol", "--program=pproxy", "--command=set metrics 127.0.0.1:9110")
    wait_for(lambda: any("metrics" in title_of(pid) for pid in root.processes()), what="a process for metrics")
    for pid in root.processes():
        assert set(re.findall(r"^Cap...:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)) == {
            f"{0:016x}"}, title_of(pid)
    for name, pid in pids(root).items():
        assert {most_processes(each) for each in children_of(pid)} == {6000 if name == "pproxy" else 0}
        assert most_processes(pid) > 6000
    shown = root.run("pcontrol", "--program=pproxy", "--command=show confinement").splitlines()
    assert {"no_capabilities = on", "empty_bounding_set = on", "process_limit = on"} <= set(shown)


def assert_the_proxy_may_do_little(root: DebianRoot) -> None:
    """Fail if the proxy's user can do what belongs to pop, or cannot do its own work."""
    tries = {"ls /pop": True, "rm /run/popular/pserv.ctrl": True, "mv /var/log/popular/pserv /var/log/popular/x": True,
             "pcontrol --program=pserv --command=version": True, "cat /etc/popular/users": False,
             "pcontrol --program=pproxy --command='set pdmdir /tmp'": True,
             "pcontrol --program=pproxy --command=reload": False}
    for words, fails in tries.items():
        root.run("setpriv", "--reuid=pproxy", "--regid=pproxy", "--init-groups", "sh", "-c",
                 f"! {words}" if fails else words)


def assert_the_mail_server_alone_reaches_plmtpd(root: DebianRoot) -> None:
    """Start plmtpd for a mail server of the group mail, which is another user than pop."""
    path = root.path / "etc/popular/plmtpd.conf"
    path.write_text(path.read_text().replace("/lmtp\n", "/lmtp\n    socketgroup = mail\n"))
    root.run("/etc/init.d/plmtpd", "start")
    assert root.run("stat", "-c", "%U %G %a", "/run/popular/lmtp").split() == ["pop", "mail", "660"]
    call = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/popular/lmtp'); print(s.recv(3).decode())"
    for group, code in (("mail", 0), ("nogroup", 1)):
        said = root.run("setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", "python3", "-c", call,
                        code=code)
        assert ("220" in said) is (code == 0)
    root.run("setpriv", "--reuid=nobody", "--regid=mail", "--clear-groups", "sh", "-c", "! ls /run/popular")


def become_old(root: DebianRoot) -> None:
    """Have the system as it was when pop ran all daemons."""
    for name in reversed(DAEMONS):
        root.run(f"/etc/init.d/{name}", "stop")
    root.run("sh", "-ec", "userdel pproxy; groupdel popular; chown -R pop:pop /run/popular /var/log/popular; "
             "chmod 750 /run/popular /var/log/popular; chgrp pop /etc/popular/users; pcheckd; pserv; pproxy --user pop")


def log_in(client: PopClient) -> None:
    """Begin the session of the user joe."""
    assert client.login("joe", "geheim").startswith(b"+OK")
    assert client.ok("STAT").split()[0] == b"1"


def versions(root: DebianRoot) -> set[str]:
    """Return the versions that answer at the control sockets."""
    return {root.run("pcontrol", "--program", name, "--command", "version").split()[2] for name in ("pproxy", "pserv")}


def test_lintian_finds_no_fault(package):
    done = subprocess.run([need_program("lintian"), "--allow-root", "--fail-on", "error,warning", package],
                          stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_package_has_the_version_of_the_programs():
    newest = re.match(r"popular \((.+)\) ", (ROOT / "debian/changelog").read_text())
    assert newest is not None and newest[1] == VERSION


def test_what_is_installed_is_all_there_and_the_administrator_s(package, tmp_path):
    """Settings are conffiles; the programs and modules are those of the tree."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "tree"], check=True, timeout=60)
    tree = tmp_path / "tree"
    settings = {f"/{path.relative_to(tree)}" for path in (tree / "etc").rglob("*") if path.is_file()}
    assert {f"/etc/popular/{name}.conf" for name in (*DAEMONS, "plmtpd", "ringd", "pclean")} <= settings
    assert {f"/etc/init.d/{name}" for name in (*DAEMONS, "plmtpd", "ringd")} <= settings
    assert settings == set((tree / "DEBIAN/conffiles").read_text().split())
    for ours, place in (("bin", "usr/bin"), ("pdm_modules", "usr/lib/popular")):
        assert {path.name for path in (ROOT / ours).glob("p*")} <= {path.name for path in (tree / place).iterdir()}
    assert "stop" not in (tree / "DEBIAN/preinst").read_text()    # an upgrade ends nothing
    pages = {path.name for path in (tree / "usr/share/man").rglob("*.gz")}
    assert pages == {f"{path.name}.gz" for path in (ROOT / "man").glob("*.[1-8]")}


def test_units_are_where_this_release_has_its_own(package, tmp_path):
    """Below /lib on Debian 12, whose debhelper looks there only, and below /usr/lib on Debian 13."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "tree"], check=True, timeout=60)
    listed = subprocess.run(["dpkg-query", "--listfiles", "systemd"], stdout=subprocess.PIPE, text=True, timeout=60)
    places = {line.rpartition("/")[0] for line in listed.stdout.splitlines()
              if line.endswith("/system/systemd-journald.service")}
    if not places:
        lacking("systemd")
    units = {path.name for path in (ROOT / "etc/systemd").iterdir() if path.suffix in (".service", ".timer")}
    found = {path for path in (tmp_path / "tree").rglob("*") if path.name in units and path.is_file()}
    assert {f"/{path.parent.relative_to(tmp_path / 'tree')}" for path in found} == places
    assert {path.name for path in found} == units


def test_the_life_of_a_package(package, remake, root, pop):
    before = root.files()
    root.install(package)
    pids(root)
    for name in reversed(DAEMONS):
        root.run(f"/etc/init.d/{name}", "stop")
    for name in DAEMONS:
        root.run(f"/etc/init.d/{name}", "start")
    old = pids(root)
    add_user(root, "joe", "geheim")
    session = pop(POP3)
    log_in(session)
    root.install(remake(NEXT, be_newer))
    assert versions(root) == {NEXT}
    new = pids(root)
    assert not set(old.values()) & set(new.values())
    log_in(another := pop(POP3))
    another.ok("QUIT")
    assert session.message(1).endswith(MESSAGE)
    assert is_alive(old["pproxy"]) and is_alive(old["pserv"])
    session.ok("DELE 1")
    session.ok("QUIT")
    wait_for(lambda: reap() is not None and not any(map(is_alive, old.values())), what="the end of the old version")
    root.run("install", "-D", "/dev/null", "/var/lib/popular/smtpafterpop/clients.db")
    root.run("dpkg", "--purge", "popular")
    left = {name for name in root.files() - before if not OF_OTHERS.fullmatch(name)}
    assert {name for name in left if not STAYS.fullmatch(name)} == set()
    assert {"/pop/joe/cur", "/var/log/popular/pproxy", "/var/log/popular/pserv"} <= left


def test_an_upgrade_that_does_not_work_leaves_the_daemons_running(package, remake, root, pop):
    root.install(package)
    with (root.path / "etc/default/popular").open("a") as file:
        file.write("UPGRADETIME=3\n")    # for pcheckd, which cannot say that it failed
    old = pids(root)
    add_user(root, "joe", "geheim")
    session = pop(POP3)
    log_in(session)
    assert "not started or not upgraded, for the reasons above: pcheckd pserv pproxy" in root.install(
        remake(NEXT, be_broken))
    assert pids(root) == old
    for client in (session, pop(POP3)):
        if client is not session:
            log_in(client)
        client.ok("QUIT")
    root.install(remake(NEXT + "x", be_newer))
    assert versions(root) == {NEXT}
    root.run("dpkg", "--remove", "popular")
    assert (root.path / "etc/popular/users").exists()
    root.install(package)    # what was removed starts again
    pids(root)
    root.run("dpkg", "--purge", "popular")


def test_a_port_that_another_server_has_does_not_break_the_installation_and_rights_are_few(package, root):
    """The proxy cannot read mail, and no process has a right of root."""
    with socket.create_server((POP3.host, POP3.port)):
        assert "not started or not upgraded, for the reasons above: pproxy" in root.install(package)
        assert root.run("/etc/init.d/pproxy", "status", code=3)
    root.run("/etc/init.d/pproxy", "start")
    add_user(root, "joe", "geheim")
    pop, pproxy = uid_of(root, "pop"), uid_of(root, "pproxy")
    assert pop != pproxy and owners(root) == {"pcheckd": pop, "pserv": pop, "pproxy": pproxy}
    assert_the_mail_server_alone_reaches_plmtpd(root)
    assert_rights_are_few(root)
    assert_the_proxy_may_do_little(root)
    root.run("dpkg", "--purge", "popular")


def test_an_older_installation_keeps_its_user_until_the_administrator_changes_that(package, remake, root, pop):
    root.install(package)
    add_user(root, "joe", "geheim")
    become_old(root)
    old = pids(root)
    session = pop(POP3)
    log_in(session)
    assert "pproxy still runs as pop" in root.install(remake(NEXT, be_newer))
    assert versions(root) == {NEXT} and not set(old.values()) & set(pids(root).values())
    assert {uid_of(root, "pop")} == {uid_of(root, "pproxy"), *owners(root).values()}
    session.ok("QUIT")
    for name in DAEMONS:
        root.run(f"/etc/init.d/{name}", "restart")
    readme = (ROOT / "debian/popular.README.Debian").read_text()
    steps = re.findall("^    (.*)\n", readme.partition("of its own then:")[2].partition("Let pproxy")[0], re.MULTILINE)
    root.run("sh", "-exc", "\n".join(steps))
    assert owners(root)["pproxy"] == uid_of(root, "pproxy") != uid_of(root, "pop")
    log_in(client := pop(POP3))
    client.ok("QUIT")
    root.run("dpkg", "--purge", "popular")
