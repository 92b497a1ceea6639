"""What database modules read of others: a line of Dovecot's, an answer of a program or of an HTTP server."""

import contextlib

from pdm_modules import pdm_dovecot, pdm_exec, pdm_http
from popular.errors import PdmError
from popular.pdm import records
from popular.pdm.api import Outcome
from popular.pdm.validation import fault_of
from tests.harness.pdm import make_request

REQUEST = make_request("joe", b"secret", ip="192.0.2.7")
DOVECOT = pdm_dovecot.Module("id", ["file=/f", "backend=main", "backends=h=one", "mailbox=%{home}"])
HTTP = pdm_http.Module("id", ["url=http://h/", "backends=192.0.2.1:110=one"])


def dovecot_line(data: bytes) -> None:
    """The rest of a user's line in a passwd-file: nobody gets in without a password, or ValueError."""
    with contextlib.suppress(ValueError):
        record = DOVECOT._record(REQUEST, *pdm_dovecot._parsed(b"joe:" + data))
        answer = records.answer_to(REQUEST, record)
        assert answer.outcome is not Outcome.OK or data.startswith(b"{")
        fault_of(answer)


def program_answer(data: bytes) -> None:
    """A line that a program has written: texts by their names, or PdmError."""
    with contextlib.suppress(PdmError):
        values = pdm_exec._values(data, 1)
        assert values["outcome"] and all(isinstance(value, str) for value in values.values())


def http_headers(data: bytes) -> None:
    """Headers of an HTTP server: nobody gets in without Auth-Status: OK."""
    told: dict[str, list[str]] = {}
    for line in data.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        told.setdefault(name.lower(), []).append(value)
    with contextlib.suppress(ValueError):
        answer = HTTP._answer(REQUEST, told)
        assert answer.outcome is not Outcome.OK or told["auth-status"][0].strip() == "OK"
        fault_of(answer)
