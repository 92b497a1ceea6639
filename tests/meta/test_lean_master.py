"""The running master and its children hold nothing heavy, and nothing is imported per connection."""

import pytest

from tests.harness.toyclient import Client, start_toy

HEAVY = {"threading", "logging", "argparse", "configobj", "subprocess", "tempfile", "concurrent", "asyncio",
         "multiprocessing", "site", "daemon", "lockfile", "setproctitle"}


@pytest.fixture
def modules(by_exec, start):
    """What a child has loaded, in its first session and in its second."""
    toy = start_toy(start, minspare=1, maxspare=1, maxsession=1, maxuse=2)
    answers = []
    for _ in range(2):
        with Client(toy.endpoint()) as client:
            answers.append(client.ask(b"modules").decode().split())
    return answers


def test_a_child_has_no_heavy_module(modules):
    assert [name for name in modules[0] if name.split(".")[0] in HEAVY] == []


def test_a_child_has_nothing_that_dataclasses_do_without(modules):
    assert "dataclasses" in modules[0]
    assert {"inspect", "ast", "dis", "tokenize"}.isdisjoint(modules[0])


def test_the_list_is_that_of_the_right_process(modules):
    assert {"popular.daemon.master.loop", "popular.proc.child", "tests.harness.toy"} <= set(modules[0])
    assert "popular.daemon.start.starter" not in modules[0]


def test_a_session_imports_nothing(modules):
    assert modules[0] == modules[1]
