"""What test-systemd.sh does in a system that systemd has booted, and what it expects there: argument dist/.

At the first boot the package is installed, which starts the daemons; at the second it is there.  Python's own library
only.  The exit code is not 0 if anything is not as it should be, and what was done is on standard output.
"""

import poplib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("pproxy", "pserv", "pcheckd")
MESSAGE = b"Subject: one\r\n\r\nfor joe\r\n"
PASSWORD = "geheim"
SECONDS = 20.0


def run(*words: str, data: bytes = b"", code: int = 0) -> str:
    """Run a program; returns all it says.  Another exit code than `code` ends this."""
    print("#", *words, flush=True)
    done = subprocess.run(words, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    text = done.stdout.decode(errors="replace")
    if done.returncode != code:
        sys.exit(f"{text}ended with {done.returncode}")
    return text


def expect(found: object, wanted: object, what: str) -> None:
    """End this if something is not as it should be."""
    if found != wanted:
        sys.exit(f"{what}: {found!r} instead of {wanted!r}")


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait for something; end this if it does not happen."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


def told(unit: str, name: str) -> str:
    """Return a property of a unit."""
    return run("systemctl", "show", "--value", f"--property={name}", unit).strip()


def are_running() -> None:
    """Expect that all daemons run and that no unit of POPular has failed."""
    for name in DAEMONS:
        expect(told(name, "ActiveState"), "active", name)
        expect(told(name, "NRestarts"), "0", name)
        expect(told(name, "UnitFileState"), "enabled", name)
    expect(run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "p*", "ringd*"), "", "failed units")


@contextmanager
def session() -> Iterator[poplib.POP3]:
    """A session of joe at pproxy, with the message, which stays."""
    client = poplib.POP3("127.0.0.1", 110, timeout=SECONDS)
    client.user("joe")
    client.pass_(PASSWORD)
    expect(client.stat()[0], 1, "messages")
    yield client
    expect(b"\r\n".join(client.retr(1)[1]) + b"\r\n", MESSAGE, "message")
    client.quit()


def processes(unit: str) -> list[Path]:
    """Return the processes of a unit."""
    group = Path("/sys/fs/cgroup" + told(unit, "ControlGroup"))
    return [Path("/proc") / pid for pid in (group / "cgroup.procs").read_text().split()]


def rights(process: Path) -> set[str]:
    """Return those sets of capabilities of a process that are not empty."""
    return set(re.findall(r"^Cap(\w+):\t0*[1-9a-f]", (process / "status").read_text(), re.MULTILINE))


def have_walls() -> None:
    """Expect that the units leave all walls, and that only the master of pproxy has a capability."""
    for name in DAEMONS:
        walls = [line for line in Path(f"/var/log/popular/{name}").read_text().splitlines() if " walls_" in line][-1]
        print(walls)
        missing = re.findall(r"[' ](?!landlock)(\w+): ", walls.partition(" walls_missing ")[2])
        expect(missing, [], f"walls of {name} that are missing, beside those of an old kernel")
        main = Path("/proc") / told(name, "MainPID")
        expect(rights(main), {"Prm", "Eff", "Inh", "Amb", "Bnd"} if name == "pproxy" else set(), f"rights of {name}")
        children = [each for each in processes(name) if each != main]
        expect(bool(children), True, f"children of {name}")
        for child in children:
            expect(rights(child) - ({"Bnd"} if name == "pproxy" else set()), set(), f"rights of a child of {name}")


def is_reloaded_and_upgraded() -> None:
    """Expect that a session goes on over reload and upgrade."""
    with session():
        wait_for(lambda: told("pproxy", "StatusText").startswith("sessions: 1 of "), "the status of pproxy")
        for name in DAEMONS:
            before = told(name, "MainPID")
            run("systemctl", "reload", name)
            wait_for(lambda name=name: told(name, "ActiveState") == "active", f"the end of the reload of {name}")
            expect(told(name, "MainPID"), before, f"main process of {name}")
            if name == "pcheckd":
                run("systemctl", "kill", "--kill-whom=main", "--signal=USR2", name)
            else:
                run("pcontrol", f"--program={name}", "--command=upgrade")
            wait_for(lambda name=name, before=before: told(name, "MainPID") != before, f"the new master of {name}")
        with session():
            pass
    are_running()


def install(dist: Path) -> None:
    """Install the package, and add a user with a message as README.Debian says."""
    [package] = dist.glob("popular_*_all.deb")
    print(run("dpkg", "--install", str(package)))
    line = f"joe:{run('openssl', 'passwd', '-6', PASSWORD).strip()}:local::joe\n"
    with Path("/etc/popular/users").open("a") as users:
        users.write(line)
    run("setpriv", "--reuid=pop", "--regid=pop", "--init-groups", "pdeliver", "--create", "joe", data=MESSAGE)


def main() -> None:
    """Do everything."""
    if not Path("/etc/popular").exists():
        install(Path(sys.argv[1]))
    are_running()
    have_walls()
    is_reloaded_and_upgraded()
    run("systemctl", "restart", *DAEMONS)
    are_running()
    with session():
        pass
    for name in ("pclean", "ringd", "plmtpd"):
        run("systemctl", "start", name)
    expect(told("ringd", "ActiveState"), "active", "ringd")
    expect(rights(Path("/proc") / told("ringd", "MainPID")), {"Prm", "Eff", "Bnd"}, "rights of ringd")
    masters = [told(name, "MainPID") for name in DAEMONS]
    expect(told("plmtpd", "ActiveState"), "active", "plmtpd")
    run("systemctl", "stop", *DAEMONS, "ringd", "plmtpd")
    expect([pid for pid in masters if Path("/proc", pid).exists()], [], "masters that are left")
    expect(run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "p*", "ringd*"), "", "failed units")


main()
