"""What testssl.sh says of TLS toward clients, from the first octet on and after STLS.

It tries versions, ciphers, certificates and known attacks, and rates what it finds.  Nothing worse than
LOW is allowed, but for a few findings that are not about POPular: see `EXPECTED`.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.certificates import Authority
from tests.harness.daemon import Daemon
from tests.harness.needs import need_program
from tests.harness.proxy import start_proxy, store

DEADLINE = 240.0    # seconds for both runs, side by side; 35 are usual
HOST = "localhost"
NOWHERE = Endpoint("127.0.0.1", 1)

# Versions, kinds of ciphers, what the server shows, known attacks; with --long also forward secrecy and what the server
# prefers, which test_tls_inspect.py asks for, too.
SECTIONS = ("-p", "-s", "-S", "-U")
LONG_SECTIONS = ("-f", "-P", *SECTIONS)
FEW_SECTIONS = ("-p",)    # after STLS, as the same code does the handshake
HARMLESS = frozenset(("OK", "INFO", "LOW", "DEBUG"))
EXPECTED: Mapping[tuple[str, str], str] = {
    ("cert_revocation", "HIGH"): "the authority of the tests tells nobody what it revoked",
    ("engine_problem", "WARN"): "openssl has no GOST engine, which is not tried here",
    ("RC4", "WARN"): "openssl has no RC4 to try it with; cipherlist_LOW counts RC4 in and needs no openssl",
    ("sessionresumption_ticket", "WARN"): "s_client is gone before the ticket comes; see test_tls_inspect.py",
}
# Without these findings there was no test.
WANTED: Mapping[str, str] = {
    "SSLv2": "OK", "SSLv3": "OK", "TLS1": "INFO", "TLS1_1": "INFO", "TLS1_2": "OK", "TLS1_3": "OK",
    "cipherlist_NULL": "OK", "cipherlist_aNULL": "OK", "cipherlist_LOW": "OK", "cert_trust": "OK",
    "cert_chain_of_trust": "OK", "secure_renego": "OK", "secure_client_renego": "OK", "CRIME_TLS": "OK",
    "SWEET32": "OK", "LUCKY13": "OK", "heartbleed": "OK",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    ident: str       # without the number of the certificate
    severity: str
    text: str


@pytest.mark.limit(int(DEADLINE) + 30)
def test_nothing_is_worse_than_low(start: Callable[..., Daemon], rundir: Path, authority: Authority,
                                   pytestconfig: pytest.Config) -> None:
    need_program("testssl")
    is_long = pytestconfig.getoption("--long")
    first, second = (LONG_SECTIONS, LONG_SECTIONS) if is_long else (SECTIONS, FEW_SECTIONS)
    pairs = [authority.sign(HOST, kind=kind, days=90) for kind in ("ecdsa", "rsa")]
    tls = {"certificate": ", ".join(pair.certificate for pair in pairs), "key": ", ".join(pair.key for pair in pairs)}
    deadline = time.monotonic() + DEADLINE
    ports = {mode: start_proxy(start, rundir, store(NOWHERE), name=mode, vserv={"tls": mode, **tls}).endpoint().port
             for mode in ("implicit", "starttls")}
    with running(rundir / "implicit.json", authority, *first, f"{HOST}:{ports['implicit']}") as implicit, \
            running(rundir / "starttls.json", authority, *second, "-t", "pop3",
                    f"{HOST}:{ports['starttls']}") as starttls:
        reports = {mode: report_of(process, rundir / f"{mode}.json", deadline)
                   for mode, process in (("implicit", implicit), ("starttls", starttls))}
    for mode, found in reports.items():
        wrong = [one for one in found if one.severity not in HARMLESS and (one.ident, one.severity) not in EXPECTED]
        assert not wrong, (mode, wrong)
        got = {one.ident: one.severity for one in found if one.ident in WANTED}
        wanted = WANTED if mode == "implicit" else got
        assert len(got) > 5 and got == {ident: WANTED[ident] for ident in wanted}, mode


@contextmanager
def running(report: Path, authority: Authority, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run testssl.sh, which writes to `report`; what is left of it and its helpers is killed at the end."""
    command = [need_program("testssl"), "--openssl", need_program("openssl"), "--add-ca", authority.cafile,
               "--ip", "127.0.0.1", "-n", "none", "--warnings", "off", "--color", "0", "--fast",
               "--jsonfile", str(report), *words]
    with report.with_suffix(".out").open("wb") as out, subprocess.Popen(
            command, cwd=report.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def report_of(process: "subprocess.Popen[bytes]", report: Path, deadline: float) -> list[Finding]:
    """Wait for the end of a run and return what it found; raises AssertionError with its output."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
        return [Finding(one["id"].partition(" ")[0], one["severity"], one["finding"])
                for one in json.loads(report.read_text())]
    except (subprocess.TimeoutExpired, OSError, ValueError) as why:
        raise AssertionError(f"{why}\n{report.with_suffix('.out').read_text(errors='replace')}") from None
