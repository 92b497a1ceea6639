"""--help of each program: what it is for comes first, what is required is marked, and defaults are shown."""

import re

import pytest

from tests.meta.test_manpages import help_of

DAEMONS = ("pproxy", "pserv", "plmtpd", "pcheckd", "ringd")


@pytest.mark.parametrize("program", [*DAEMONS, "pcheck", "pclean", "pcontrol", "pdeliver", "plmdb", "pmailbox",
                                     "pmakecdb", "pmigrate", "pmove", "poauth", "ppasswd", "pstatus", "ptestpdm"])
def test_the_first_line_says_what_a_program_is_for(program: str) -> None:
    first, empty, usage, *_ = help_of(program).splitlines()
    assert re.fullmatch(rf"{program} - [A-Z].{{20,100}}\.", first)
    assert empty == "" and usage.startswith(f"usage: {program} ")


@pytest.mark.parametrize("program, words", [
    ("pproxy", "(default /var/log/popular/pproxy)"), ("pserv", "(default /pop)"), ("pcheckd", "(default 50110)"),
    ("ringd", "required"), ("pclean", "(default /pop)"), ("pdeliver", "relative to DIR (required without --user)"),
    ("pdeliver", "(default -)"), ("pmailbox", "(default 1,2)"), ("pmailbox", "one per line (default -) options:"),
    ("pproxy", "(one of file, syslog, stderr; default file)"), ("pserv", "(one of classic, json; default classic)"),
    ("pclean", "(one of none, empty, overquota, all; default none)"), ("pmakecdb", "the database (required)"),
    ("pmakecdb", "(default -)")])
def test_what_is_required_and_what_holds_without_it_is_shown(program: str, words: str) -> None:
    assert words in " ".join(help_of(program).split())
