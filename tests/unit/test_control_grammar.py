"""The control language: patterns, matching, usages of near misses, help."""

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from popular.control.grammar import MAX_WORDS, CommandPattern, CommandSet, join_words, split_words
from popular.errors import UsageError

commands: CommandSet[str] = CommandSet()
for pattern in ("show config", "show [var]", "set <var> <value...>", "debug <state:on|off>",
                "debug session <state:on|off>", "backend add <id> <protocol> <address...> [key=value...]",
                "backend set <id> <key=value...>", "backend drain <id>", "pdm add <id> <module> [args...]"):
    commands.add(pattern, f"Doc of {pattern}.")(pattern)


def find(line: str) -> tuple[str, dict[str, tuple[str, ...]], dict[str, str]]:
    """Match a line; returns the pattern and what was given."""
    command, got = commands.find(split_words(line))
    return command.handler, dict(got.values), dict(got.pairs)


@pytest.mark.parametrize(("line", "pattern", "values", "pairs"), [
    pytest.param("show config", "show config", {}, {}, id="literal before a slot"),
    pytest.param("show", "show [var]", {"var": ()}, {}, id="optional missing"),
    pytest.param("show pid", "show [var]", {"var": ("pid",)}, {}, id="optional"),
    pytest.param("  show\tpid ", "show [var]", {"var": ("pid",)}, {}, id="spaces"),
    pytest.param("set banner a  b", "set <var> <value...>", {"var": ("banner",), "value": ("a", "b")}, {}, id="many"),
    pytest.param("set sidprefix ''", "set <var> <value...>", {"var": ("sidprefix",), "value": ("",)}, {}, id="empty"),
    pytest.param("set a x=y", "set <var> <value...>", {"var": ("a",), "value": ("x=y",)}, {}, id="no pairs here"),
    pytest.param("debug off", "debug <state:on|off>", {"state": ("off",)}, {}, id="choice"),
    pytest.param("debug session on", "debug session <state:on|off>", {"state": ("on",)}, {}, id="longer"),
    pytest.param("backend add s1 xpop a:1 b:2 source='x y' enabled=off",
                 "backend add <id> <protocol> <address...> [key=value...]",
                 {"id": ("s1",), "protocol": ("xpop",), "address": ("a:1", "b:2")},
                 {"source": "x y", "enabled": "off"}, id="pairs"),
    pytest.param("pdm add u passwd /x namespace=a", "pdm add <id> <module> [args...]",
                 {"id": ("u",), "module": ("passwd",), "args": ("/x", "namespace=a")}, {}, id="words with ="),
])
def test_a_line_is_matched(line, pattern, values, pairs):
    assert find(line) == (pattern, values, pairs)


@pytest.mark.parametrize(("line", "text"), [
    pytest.param("", "no such command: ''; try help", id="nothing"),
    pytest.param("nonsense", "no such command: 'nonsense'; try help", id="unknown"),
    pytest.param("backendd", "no such command: 'backendd'; did you mean 'backend'?", id="misspelt"),
    pytest.param("backend", "usage: backend add <id> <protocol> <address...> [key=value...]\n"
                 "usage: backend set <id> <key=value...>\nusage: backend drain <id>\n"
                 "no such command: 'backend'", id="begun only"),
    pytest.param("set", "<var> is missing; usage: set <var> <value...>", id="nothing given"),
    pytest.param("set x", "<value...> is missing; usage: set <var> <value...>", id="no value"),
    pytest.param("show a b", "'b' is one word too many; usage: show [var]", id="surplus"),
    pytest.param("debug maybe", "'maybe' is not one of on, off; usage: debug on|off", id="choice"),
    pytest.param("debug session", "on|off is missing; usage: debug session on|off", id="choice missing"),
    pytest.param("backend drain a/b",
                 "'a/b' is not an id of 1 to 64 letters, digits, ., - and _; usage: backend drain <id>",
                 id="id"),
    pytest.param("backend set s1", "<key=value...> is missing; usage: backend set <id> <key=value...>", id="no pairs"),
    pytest.param("backend set s1 enabled", "'enabled' is not key=value; usage: backend set <id> <key=value...>",
                 id="no pair"),
    pytest.param("backend set s1 a=1 a=2", "a is given twice; usage: backend set <id> <key=value...>", id="twice"),
    pytest.param("backend drian s1", "usage: backend add <id> <protocol> <address...> [key=value...]\n"
                 "usage: backend set <id> <key=value...>\nusage: backend drain <id>\n"
                 "no such command: 'backend drian'; did you mean 'backend drain'?", id="near"),
])
def test_a_near_miss_tells_the_usage(line, text):
    with pytest.raises(UsageError) as caught:
        commands.find(split_words(line))
    assert str(caught.value) == text


@pytest.mark.parametrize("line", ["set x 'open", 'set x "open', "set x \\"])
def test_open_quotes_are_refused(line):
    with pytest.raises(UsageError, match="cannot be split"):
        split_words(line)


@pytest.mark.parametrize(("words", "line"), [
    (["a", "[::1]:1", "b=c", "***"], "a [::1]:1 b=c ***"), (["", "a b", "it's", 'x"', "\\"], None)])
def test_words_are_joined_with_the_quotes_that_they_need(words, line):
    joined = join_words(words)
    assert line in (None, joined)
    assert split_words(joined) == words


def test_words_are_limited():
    assert len(split_words("x " * MAX_WORDS)) == MAX_WORDS
    with pytest.raises(UsageError, match="at most 2100"):
        split_words("x " * (MAX_WORDS + 1))


@pytest.mark.parametrize("pattern", ["<ID>", "<a", "a|b", "[x=y]", "<a:>", "Show"])
def test_a_wrong_pattern_is_a_mistake_of_ours(pattern):
    with pytest.raises(ValueError):
        CommandPattern(pattern)


@pytest.mark.parametrize(("line", "count"), [
    ("pdm ad users sql secret", 1), ("backend drain a/b", 2), ("secret", 0), ("set password", 1)])
def test_words_of_commands_are_told_from_what_may_be_secret(line, count):
    assert commands.known_words(line.split()) == count


def test_help_lists_all_or_one():
    assert len(commands.help()) == 9
    assert commands.help("set") == ["set <var> <value...>  Doc of set <var> <value...>."]
    assert commands.help("debug")[0] == "debug on|off          Doc of debug <state:on|off>."
    with pytest.raises(UsageError, match="no command begins with 'x'"):
        commands.help("x")


def test_sets_are_put_together():
    other: CommandSet[str] = CommandSet(commands)
    other.add("more", "More.")("more")
    assert len(list(other)) == len(list(commands)) + 1


@for_all(st.lists(st.sampled_from(["show", "set", "backend", "add", "a=b", "x", "", "on", "'", "debug", "=", "pdm"])))
def test_any_words_match_or_are_refused(words):
    try:
        commands.find(words)
    except UsageError as why:
        assert str(why)
