"""What pstatus tells of counts that several proxies share."""

import json
from pathlib import Path

import pytest

from popular.statefile.layout import PROXY, SharingState
from popular.statefile.writer import StateFile
from popular.tools.pstatus import document
from popular.tools.pstatus.snapshot import Selection, take
from popular.tools.pstatus.table import about


@pytest.mark.parametrize("state, line, word", [
    (SharingState.OFF, None, "off"), (9, None, "off"),
    (SharingState.TOGETHER, "counted together with 2 other proxies", "together"),
    (SharingState.ALONE, "counted here alone: the server of sharewith does not answer", "alone"),
    (SharingState.STARTING, "counted here alone: the server of sharewith has not been asked yet", "starting")])
def test_sharing(tmp_path: Path, state: SharingState, line: str | None, word: str) -> None:
    statefile = StateFile(PROXY, 2, str(tmp_path / "state"))
    statefile.tell_sharing(state, 2)
    snapshot = take(statefile.path)
    assert dict(about(snapshot, {})).get("sharing") == line
    assert json.loads(document.text(snapshot, Selection(), {}))["sharing"] == {"state": word, "proxies": 2}
    statefile.close()
