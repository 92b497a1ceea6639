"""The harness of the examples in man pages: how they are read, and the machine on which they are typed."""

from pathlib import Path

import pytest

from tests.harness.house import Answer, typed
from tests.harness.manpages import Command, Example, commands_of, examples_of, octets_of, plain


def test_commands_are_typed_on_a_machine_of_its_own(tmp_path: Path) -> None:
    answers = typed(tmp_path, [
        "echo one; echo two >&2", "false", "cd /tmp && x=1", "pwd; echo $x",
        "useradd --system someone && id -un someone",
        "touch /usr/x", f"touch {tmp_path}/x", "touch /x && ls /x", "ip -o link | wc -l", "ls -d /proc/[0-9]* | wc -l"])
    assert answers[:5] == [Answer(0, "one\ntwo\n"), Answer(1, ""), Answer(0, ""), Answer(0, "/tmp\n1\n"),
                           Answer(0, "someone\n")]
    assert [answer.code for answer in answers[5:8]] == [1, 1, 0]
    assert answers[8] == Answer(0, "1\n") and int(answers[9].output) < 5
    assert list(tmp_path.iterdir()) == [] and not Path("/x").exists()


def test_a_shell_that_ends_early_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        typed(tmp_path, ["echo hello", "exit 0", "echo there"])


def test_examples_are_found_with_their_kinds(tmp_path: Path) -> None:
    page = tmp_path / "x.1"
    page.write_text('.TH X 1\n.nf\nform\n.fi\n'
                    '.\\" example: shell 0 1\n.nf\n$ a \\-b \\(aqc\\(aq\n\\&.x \\ex00\n$ d\n.fi\n')
    none, shell = examples_of(page)
    assert (none.kind, none.text, none.line) == ("", "form\n", 2)
    assert str(shell) == "x.1:6"
    assert commands_of(shell) == [Command("a -b 'c'", ".x \\x00\n", 0), Command("d", "", 1)]


def test_without_any_output_that_may_be_anything() -> None:
    assert commands_of(Example("", 0, "shell", (), "$ a\n# b\n")) == [Command("a", "..."), Command("b", "...")]


@pytest.mark.parametrize(("wanted", "output", "is_answer"), [
    ("", "", True), ("", "x\n", False), ("...", "x\ny\n", True), ("a ... c\n", "a b\nb c\n", True),
    ("a.c\n", "abc\n", False), ("a\n", "a\r\n", True), ("...x\n", "y\n", False)])
def test_answers(wanted: str, output: str, is_answer: bool) -> None:
    assert Command("", wanted).is_answer(output) is is_answer


def test_an_unknown_escape_is_a_mistake() -> None:
    assert plain("\\fBx\\fR\\-\\(dq\\e") == 'x-"\\'
    with pytest.raises(KeyError):
        plain("\\(xx")


@pytest.mark.parametrize(("text", "is_good"), [
    ("41 42 20 0a" + " " * 38 + "AB .\n", True), ("41 42" + " " * 44 + "AC\n", False)])
def test_octets_and_the_text_beside_them(text: str, is_good: bool) -> None:
    example = Example("", 0, "hex", (), text)
    if is_good:
        assert octets_of(example) == b"AB \n"
    else:
        with pytest.raises(AssertionError):
            octets_of(example)
