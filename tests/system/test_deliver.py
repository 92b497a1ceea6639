"""pdeliver as the MTA runs it: many at once, on full disks, ended by signals at every moment."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popular.store.filename import is_ours, size_of
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from tests.harness.daemon import ROOT
from tests.harness.mail import crlf, samples
from tests.harness.system import wait_for

MAIL = b"Subject: x\n\ntext\n"
Prepare = Callable[[], None]


@pytest.fixture
def box(spool: Path) -> Path:
    """An empty mailbox."""
    Mailbox(str(spool), "joe").create()
    return spool / "joe"


def command_for(box: Path, *options: str) -> list[str]:
    return [sys.executable, str(ROOT / "bin" / "pdeliver"), "-m", str(box.parent), "-l", str(box.parent / "log"),
            *options, box.name]


@contextmanager
def running(box: Path, *options: str, prepare: Prepare | None = None) -> "Iterator[subprocess.Popen[bytes]]":
    """Run pdeliver with pipes; it is killed if it is still there at the end."""
    with subprocess.Popen(command_for(box, *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, preexec_fn=prepare) as process:
        try:
            yield process
        finally:
            process.kill()


def deliver(box: Path, mail: bytes, *options: str, prepare: Prepare | None = None) -> int:
    with running(box, *options, prepare=prepare) as process:
        process.communicate(mail, timeout=30)
        return process.returncode


def messages(box: Path) -> list[bytes]:
    """Return what a client would fetch, after checking that each size told is right."""
    maildrop = MaildirMaildrop(Mailbox(str(box.parent), box.name))
    found: list[bytes] = []
    for index, entry in enumerate(maildrop.entries):
        with maildrop.open(index) as file:
            found.append(file.read())
        assert entry.size == len(found[-1])
    return found


def drafts(box: Path) -> list[str]:
    return os.listdir(box / "tmp")


def test_real_messages_are_stored_octet_for_octet(box: Path) -> None:
    try:
        mails = list(samples().values())[:12]
    except LookupError as why:
        pytest.skip(str(why))
    for mail in mails:
        assert deliver(box, mail) == 0
    assert sorted(messages(box)) == sorted(crlf(mail) for mail in mails)


def test_spec_9_1_parallel_deliveries_need_no_lock(box: Path) -> None:
    processes = [subprocess.Popen(command_for(box), stdin=subprocess.PIPE) for _ in range(20)]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(b"Subject: %03d\n\n" % number)
        process.stdin.close()
    assert [process.wait(30) for process in processes] == [0] * 20
    assert sorted(messages(box)) == [b"Subject: %03d\r\n\r\n" % number for number in range(20)]
    assert drafts(box) == []
    assert all(is_ours(name) for name in os.listdir(box / "new"))
    assert len((box.parent / "log").read_text().splitlines()) == 20


def test_a_big_mail_with_a_long_line_needs_little_memory(box: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (200 * 2**20, 200 * 2**20))

    mail = b"x" * (64 * 2**20)
    for form in ("LF", "NET"):
        assert deliver(box, mail, "-f", form, prepare=little) == 0
    assert [size_of(name) for name in os.listdir(box / "new")] == [len(mail) + 2] * 2


def test_a_full_disk_leaves_nothing(box: Path) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    assert deliver(box, b"x\n" * 100_000, prepare=small) == 75
    assert (messages(box), drafts(box)) == ([], [])
    assert deliver(box, MAIL, prepare=small) == 0
    assert messages(box) == [crlf(MAIL)]


def test_no_standard_input_is_75(box: Path) -> None:
    assert deliver(box, b"", prepare=lambda: os.close(0)) == 75
    assert (messages(box), drafts(box)) == ([], [])


def test_nobody_listening_on_standard_error_is_no_over_quota(spool: Path) -> None:
    with running(spool / "missing") as process:
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 67


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_waiting_for_input_is_75_and_leaves_nothing(box: Path, number: signal.Signals) -> None:
    with running(box) as process:
        assert process.stdin is not None
        process.stdin.write(MAIL)
        process.stdin.flush()
        wait_for(lambda: drafts(box), what="a file in tmp/")
        process.send_signal(number)
        assert process.wait(30) == 75
        assert process.stderr is not None
        assert number.name.encode() in process.stderr.read()
    assert (messages(box), drafts(box)) == ([], [])


def test_a_signal_that_was_ignored_stays_ignored(box: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with running(box, prepare=ignore) as process:
        assert process.stdin is not None
        process.stdin.write(MAIL)
        process.stdin.flush()
        wait_for(lambda: drafts(box), what="a file in tmp/")
        process.send_signal(signal.SIGHUP)
        process.stdin.close()
        assert process.wait(30) == 0
    assert messages(box) == [crlf(MAIL)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_at_any_moment_leaves_the_whole_mail_or_none(box: Path, number: signal.Signals) -> None:
    """The moments are spread from the start of the process to its end."""
    mail = b"Subject: x\n\n" + b"line\n" * 20_000
    started = time.monotonic()
    assert deliver(box, mail) == 0
    span = time.monotonic() - started
    before = 1
    for turn in range(20):
        code = deliver_until(box, mail, number, span * (turn + 1) / 18)
        after = messages(box)
        assert all(message == crlf(mail) for message in after)
        if code == 0:
            assert len(after) == before + 1
        elif number != signal.SIGKILL:
            assert len(after) == before
        if number != signal.SIGKILL:
            assert drafts(box) == []
        before = len(after)


def deliver_until(box: Path, mail: bytes, number: signal.Signals, seconds: float) -> int:
    """Deliver, and send a signal after `seconds`; returns the exit code."""
    with running(box) as process:
        timer = threading.Timer(seconds, process.send_signal, (number,))
        timer.start()
        process.communicate(mail, timeout=30)
        timer.cancel()
        timer.join()
        return process.returncode


# Whatever fails, an MTA hears "over quota" only of a full mailbox

def shell_command(box: Path) -> list[str]:
    """Return how an MTA runs pdeliver: by its name, so that the shell watches Python."""
    return [str(ROOT / "bin" / "pdeliver"), "-m", str(box.parent), "-l", str(box.parent / "log")]


def our_python(**more: str) -> dict[str, str]:
    """Return an environment in which `python3` is the Python of the tests."""
    return {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", **more}


def under_shell(box: Path, *options: str, prepare: Prepare | None = None,
                environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Deliver as an MTA does."""
    return subprocess.run([*shell_command(box), *options], input=MAIL, capture_output=True, timeout=30,
                          preexec_fn=prepare, env=our_python(**(environment or {})), check=False)


@pytest.mark.parametrize(("options", "code"), [
    (("joe",), 0), (("--create", "jane"), 0), (("-Q", "0", "joe"), 0), (("--help",), 0), (("--version",), 0),
    (("-Q", "1", "joe"), 1), (("--what",), 64), (("../joe",), 64), (("nobody",), 67)])
def test_the_shell_hands_on_what_pdeliver_decides(box: Path, options: tuple[str, ...], code: int) -> None:
    (box / "new" / "1000000000.1_1").write_bytes(b"x")
    assert under_shell(box, *options).returncode == code


@pytest.mark.parametrize("change", [
    {"PYTHONHOME": "/nonexistent"}, {"PATH": "/nonexistent"}, {"PYTHONIOENCODING": "nonsense"}],
    ids=lambda change: next(iter(change)))
def test_a_python_that_cannot_start_is_75(box: Path, change: dict[str, str]) -> None:
    result = under_shell(box, "joe", environment=change)
    assert (result.returncode, messages(box)) == (75, [])
    assert b"pdeliver: Python ended with " in result.stderr


IMPORTS_THAT_FAIL = ("raise MemoryError", "raise KeyboardInterrupt", "raise SystemExit(1)", "raise OSError(24, 'x')",
                     "import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)", "1/0", "(", "raise BaseException")
ENDS_AT_ONCE = ("import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)")


@pytest.mark.parametrize("text", IMPORTS_THAT_FAIL)
@pytest.mark.parametrize("module", ["popular", "contextlib"])
def test_an_import_that_fails_is_75(box: Path, tmp_path: Path, text: str, module: str) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / f"{module}.py").write_text(text)
    path = str(tmp_path / "first")
    result = under_shell(box, "joe", environment={"PYTHONPATH": path})
    assert (result.returncode, messages(box)) == (75, [])
    if text not in ENDS_AT_ONCE:    # then no shell is needed
        bare = subprocess.run(command_for(box), input=MAIL, env={**os.environ, "PYTHONPATH": path},
                              stderr=subprocess.DEVNULL, timeout=30, check=False)
        assert (bare.returncode, messages(box)) == (75, [])


@pytest.mark.parametrize("limit", range(13, 18))
def test_no_more_descriptors_is_75_or_a_delivery(box: Path, limit: int) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        for number in range(3, limit - 13 + 3):
            os.dup2(0, number)

    code = under_shell(box, "joe", prepare=few).returncode
    assert (code, len(messages(box))) in ((75, 0), (0, 1))


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0,), (0, 1, 2)], ids=str)
def test_closed_descriptors_never_end_in_over_quota_or_in_the_mail(box: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    for run in (lambda: under_shell(box, "joe", prepare=close).returncode,
                lambda: deliver(box, MAIL, "-l", "/nonexistent/log", prepare=close)):
        before = len(messages(box))
        code = run()
        assert (code, len(messages(box)) - before) == ((75, 0) if 0 in closed else (0, 1))
    assert set(messages(box)) <= {crlf(MAIL)}


def test_help_for_a_full_disk_is_no_over_quota() -> None:
    with open("/dev/full", "wb") as full:
        for command in ([str(ROOT / "bin/pdeliver")], [sys.executable, str(ROOT / "bin/pdeliver")]):
            assert subprocess.run([*command, "--help"], stdout=full, env=our_python(), timeout=30,
                                  check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_the_shell_hands_signals_on(box: Path, number: signal.Signals) -> None:
    with subprocess.Popen([*shell_command(box), "joe"], stdin=subprocess.PIPE, env=our_python()) as process:
        wait_for(lambda: drafts(box), what="a file in tmp/")
        process.send_signal(number)
        assert process.wait(30) == 75
    assert (messages(box), drafts(box)) == ([], [])


def test_python_gives_up_when_the_shell_was_killed(box: Path) -> None:
    with subprocess.Popen([*shell_command(box), "joe"], stdin=subprocess.PIPE, env=our_python()) as process:
        wait_for(lambda: drafts(box), what="a file in tmp/")
        process.kill()
        process.wait(30)
        assert process.stdin is not None
        process.stdin.close()    # the mail is complete, and nobody would hear that it was delivered
        wait_for(lambda: not drafts(box), what="an end")
    assert messages(box) == []


def test_pdeliver_is_found_through_a_link(box: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(ROOT / "bin" / "pdeliver")
    assert subprocess.run([link, *shell_command(box)[1:], "joe"], input=MAIL, env=our_python(), timeout=30,
                          check=False).returncode == 0


@pytest.mark.parametrize("folder", ["", "lib/python{}.{}/site-packages", "lib/python3/dist-packages", None],
                         ids=lambda folder: {"": "checkout", None: "elsewhere"}.get(folder, folder))
def test_the_package_is_found_beside_the_program_or_else_wherever_python_finds_it(
        box: Path, tmp_path: Path, folder: str | None) -> None:
    (tmp_path / "bin").mkdir()
    program = shutil.copy(ROOT / "bin" / "pdeliver", tmp_path / "bin")
    if folder is not None:
        place = tmp_path / folder.format(*sys.version_info)
        place.mkdir(parents=True, exist_ok=True)
        (place / "popular").symlink_to(ROOT / "popular")
    done = subprocess.run([program, *shell_command(box)[1:], "joe"], input=MAIL, env=our_python(), timeout=30,
                          check=False)
    assert (done.returncode, messages(box)) == (0, [crlf(MAIL)])


# Root

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's part")


def chown(path: Path, user: int) -> None:
    """Give a folder and all in it to a user and group."""
    for each in (path, *path.rglob("*")):
        os.chown(each, user, user)


@needs_root
@pytest.mark.parametrize("options", [("joe",), ("--create", "joe"), ("--create", "3/2d/jane"), ("-Q", "9", "joe")],
                         ids=lambda options: "_".join(options).replace("/", "."))
def test_what_root_delivers_belongs_to_the_owner_of_the_mailbox(box: Path, options: tuple[str, ...]) -> None:
    (box.parent / "log").touch()
    chown(box.parent, 47110)
    for folder in (box.parent, *box.parent.parents[:3]):
        os.chmod(folder, 0o755)
    assert under_shell(box, *options).returncode == 0
    made = [path for path in box.parent.rglob("*") if path.is_file()]
    assert len(made) == 2    # the mail and the log
    assert {(path.stat().st_uid, path.stat().st_gid) for path in box.parent.rglob("*")} == {(47110, 47110)}


@needs_root
def test_root_follows_no_link_of_a_user(box: Path, tmp_path: Path) -> None:
    """The user has put a link to a folder of root's in the place of tmp/."""
    (tmp_path / "root").mkdir(mode=0o700)
    chown(box.parent, 47110)
    (box / "tmp").rmdir()
    (box / "tmp").symlink_to(tmp_path / "root")
    for folder in (box.parent, *box.parent.parents[:3]):
        os.chmod(folder, 0o755)
    assert under_shell(box, "joe").returncode == 75
    assert os.listdir(tmp_path / "root") == os.listdir(box / "new") == []


@needs_root
def test_root_that_cannot_become_the_owner_says_so(box: Path) -> None:
    chown(box.parent, 47110)
    result = subprocess.run(["setpriv", "--bounding-set", "-setuid,-setgid", "--inh-caps", "-setuid,-setgid",
                             sys.executable, *command_for(box)[1:]], input=MAIL, capture_output=True, timeout=30,
                            check=False)
    assert (result.returncode, b"cannot become user 47110" in result.stderr) == (75, True)
    assert messages(box) == []


@needs_root
def test_a_mailbox_of_root_stays_one(box: Path) -> None:
    assert under_shell(box, "joe").returncode == 0
    assert {path.stat().st_uid for path in (box / "new").iterdir()} == {0}
