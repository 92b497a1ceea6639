"""The inputs that fuzzing has kept do what they should; fuzzing itself is `make fuzz`."""

import pytest

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS


def test_each_target_has_inputs_and_all_inputs_have_a_target() -> None:
    assert {path.stem for path in corpus.FOLDER.iterdir()} == TARGETS.keys()
    assert all(corpus.read(name) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_inputs(name: str) -> None:
    for data in corpus.read(name):
        TARGETS[name](data)
