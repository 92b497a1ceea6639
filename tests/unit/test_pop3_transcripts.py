"""Every transcript tagged `memory`, played on the code of the children without a child."""

import pytest

from tests.harness.memory import MemoryCarrier
from tests.harness.transcript import Transcript, play, transcripts

CARRIER = MemoryCarrier()


@pytest.mark.parametrize("transcript", [one for one in transcripts() if CARRIER.plays(one)], ids=lambda one: one.name)
def test_transcript(transcript: Transcript) -> None:
    play(CARRIER, transcript)
