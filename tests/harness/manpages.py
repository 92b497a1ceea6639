"""The examples in the man pages, as whoever types them off sees them.

Every block between `.nf` and `.fi` is an example, and the comment before it says what kind of one:

    .\\" example: shell [CODE]...       lines with `$ ` or `# ` are commands, below each is what it prints, where `...`
                                       stands for anything (if no command shows what it prints, that may be anything);
                                       CODE are exit codes of commands, 0 where there is none
    .\\" example: config PROGRAM        an INI file of a program
    .\\" example: modules               the same of pproxy, but only the arguments of its database modules are tried
    .\\" example: rc PROGRAM            control commands for a daemon
    .\\" example: file PATH             the content of a file that other examples use
    .\\" example: log FORM              lines of a log, classic or json
    .\\" example: hex NAME              octets as `hexdump -C` shows them, without the offsets
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.harness.daemon import ROOT

KINDS = ("shell", "config", "rc", "file", "modules", "log", "hex")

_MARK = '.\\" example: '
_ESCAPE = re.compile(r"\\(f.|\([a-z]{2}|[-&e])")
_MEANINGS = {"-": "-", "&": "", "e": "\\", "(aq": "'", "(dq": '"', "(ga": "`", "(ti": "~", "(ha": "^"}


@dataclass(frozen=True, slots=True)
class Example:
    """One block."""

    page: str                 # "pproxy.8"
    line: int                 # of the page, where the block begins
    kind: str                 # empty if there is no mark
    words: tuple[str, ...]    # behind the kind
    text: str                 # as it is read, each line with its end

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a shell example."""

    text: str
    output: str = ""    # with its line ends; `...` is anything
    code: int = 0

    def is_answer(self, output: str) -> bool:
        """Tell whether this is what the page shows."""
        wanted = ".*".join(map(re.escape, self.output.split("...")))
        return re.fullmatch(wanted, output.replace("\r\n", "\n"), re.DOTALL) is not None


def pages() -> list[Path]:
    """Return every man page."""
    return sorted(path for path in (ROOT / "man").iterdir() if path.is_file())


def plain(text: str) -> str:
    """Return the text of a page without the escapes of fonts, hyphens and quotes; KeyError for one that is unknown."""
    return _ESCAPE.sub(lambda found: "" if found[1][0] == "f" else _MEANINGS[found[1]], text)


def examples_of(page: Path) -> list[Example]:
    """Return the blocks of a page in their order; raises AssertionError for one without an end."""
    lines = page.read_text().splitlines()
    found: list[Example] = []
    for number, line in enumerate(lines):
        if line != ".nf":
            continue
        before = lines[number - 1]
        words = before.removeprefix(_MARK).split() if before.startswith(_MARK) else [""]
        assert ".fi" in lines[number:], f"{page.name}:{number + 1}: no .fi"
        block = lines[number + 1:lines.index(".fi", number)]
        text = "".join(f"{plain(row)}\n" for row in block)
        found.append(Example(page.name, number + 1, words[0], tuple(words[1:]), text))
    return found


def commands_of(example: Example) -> list[Command]:
    """Return the commands of a shell example; raises AssertionError if it does not begin with one."""
    codes = [*map(int, example.words)]
    found: list[Command] = []
    for line in example.text.splitlines():
        if line.startswith(("$ ", "# ")):
            found.append(Command(line[2:], "", codes.pop(0) if codes else 0))
            continue
        assert found, f"{example} begins with no command"
        last = found.pop()
        found.append(Command(last.text, f"{last.output}{line}\n", last.code))
    shows = any(command.output for command in found)
    return found if shows else [Command(command.text, "...", command.code) for command in found]


def octets_of(example: Example) -> bytes:
    """Return the octets of a hex example; raises AssertionError if the text beside them is not theirs."""
    octets = b""
    for line in example.text.splitlines():
        row = bytes.fromhex(line[:48])
        shown = "".join(chr(octet) if 0x20 <= octet < 0x7f else "." for octet in row)
        assert line[49:] == shown.rstrip(), f"{example}: {line}"
        octets += row
    return octets
