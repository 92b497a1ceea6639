"""The helps of tools: what is required, what holds without an option."""

import argparse
from collections.abc import Callable

import pytest

from popular.tools import pcheck
from popular.tools.pcontrol import main as pcontrol
from popular.tools.ptestpdm import main as ptestpdm

from popular.tools.pstatus import main as pstatus

PARSERS = {"pcheck": pcheck.make_parser, "pcontrol": pcontrol.make_parser, "pstatus": pstatus.make_parser,
           "ptestpdm": ptestpdm.make_parser}


@pytest.fixture(params=PARSERS)
def parser(request: pytest.FixtureRequest) -> argparse.ArgumentParser:
    """The parser of each tool."""
    make: Callable[[], argparse.ArgumentParser] = PARSERS[request.param]
    return make()


def test_each_option_with_a_value_tells_its_default_or_that_it_is_required(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if action.option_strings and action.nargs != 0 and action.dest not in ("output", "command", "config"):
            assert action.help and ("default" in action.help or "required" in action.help), action.option_strings


def test_what_is_required_is_marked(parser: argparse.ArgumentParser) -> None:
    text = " ".join(parser.format_help().split())
    assert "required" in text
    assert "exit code: " in text.lower()


def test_each_option_has_a_help(parser: argparse.ArgumentParser) -> None:
    assert all(action.help and action.help != argparse.SUPPRESS for action in parser._actions)


def test_the_two_meanings_of_r_are_told_in_both() -> None:
    """The C version's pstatus has -r for slots; pcontrol and the daemons have it for the run folder."""
    helps = [{action.option_strings[0]: action.help or "" for action in make()._actions if action.option_strings}
             for make in (pcontrol.make_parser, pstatus.make_parser)]
    assert "of pstatus this is -R" in helps[0]["-r"]
    assert "-R here and -r in pcontrol" in helps[1]["-r"]
