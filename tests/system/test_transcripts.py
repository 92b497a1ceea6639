"""Every transcript on the real daemons that its tags allow; tests/unit plays them in memory."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.carriers import ProxyCarrier, ServCarrier
from tests.harness.transcript import Carrier, Transcript, play, transcripts


CASES = [pytest.param(program, transcript, id=f"{transcript.name}-{program}")
         for program, carrier in (("pserv", ServCarrier), ("pproxy", ProxyCarrier))
         for transcript in transcripts() if carrier.plays(transcript)]


@pytest.fixture(scope="module")
def carrier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carrier]:
    """One daemon for all transcripts: what one session leaves behind must not disturb the next."""
    rundir = Path(tempfile.mkdtemp(prefix="popular-"))
    try:
        carrier = ProxyCarrier(rundir) if request.param == "pproxy" else \
            ServCarrier(rundir, tmp_path_factory.mktemp("spool"))
        try:
            yield carrier
        finally:
            carrier.daemon.close()
        assert not carrier.daemon.bugs()
    finally:
        shutil.rmtree(rundir)


@pytest.mark.parametrize("carrier, transcript", CASES, indirect=["carrier"], scope="module")
def test_transcript(carrier: Carrier, transcript: Transcript) -> None:
    play(carrier, transcript)
