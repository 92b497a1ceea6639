"""The control language: patterns of commands, and how a line is matched against them (spec 1.3).

    @commands.add("backend drain <id>", "Send no new sessions there.")
    def drain(context, given): ...

A pattern is words separated by spaces: `drain` stands for itself, `<id>` for one word, `<state:on|off>`
for one of the listed words, `[name]` for an optional word, `<name...>` for one or more words, `[name...]`
for any number of words, `<key=value...>` and `[key=value...]` for pairs with different keys.  Lists of
words and pairs come last; if pairs may follow, words end where the first pair begins.

Used in the master, and for the man pages, which are made from the same patterns.  Matching raises
UsageError; the last line of its text says what is wrong, the other lines are usages.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from popular.config.kinds import Id
from popular.config.setting import quoted, similar
from popular.errors import UsageError
from popular.names import is_id

# The longest arguments of a database module fit, also as characters of four octets or words of one letter.
MAX_COMMAND_LINE = 20_000    # octets of a command line without its end
MAX_WORDS = 2_100            # of a command line

_PART = re.compile(r"(?P<open>[<\[])(?P<name>[a-z]+)(?P<pair>=value)?(?::(?P<choice>[a-z|]+))?(?P<many>\.\.\.)?[>\]]",
                   re.ASCII)
_NEEDS_QUOTES = re.compile(r"[\s'\"\\]")
_KEY = re.compile(r"[a-z][a-z0-9]*", re.ASCII)

_H = TypeVar("_H")


class Shape(Enum):
    """What a part of a pattern takes from a line."""

    LITERAL = "itself"
    ONE = "one word"
    MANY = "words"
    PAIRS = "pairs"


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a pattern."""

    shape: Shape
    name: str
    text: str                        # as shown in a usage
    choice: tuple[str, ...] = ()     # the allowed words; empty: any word
    optional: bool = False

    @classmethod
    def parse(cls, text: str) -> "_Part":
        """Read one part; a ValueError is a mistake in a table of commands."""
        found = _PART.fullmatch(text)
        if found is None:
            if not _KEY.fullmatch(text):
                raise ValueError(f"not a part of a pattern: {text}")
            return cls(Shape.LITERAL, text, text)
        shape = Shape.PAIRS if found["pair"] else Shape.MANY if found["many"] else Shape.ONE
        choice = tuple(found["choice"].split("|")) if found["choice"] else ()
        return cls(shape, found["name"], found["choice"] or text, choice, found["open"] == "[")

    def take_word(self, word: str) -> None:
        """Raise UsageError if `word` is not allowed here."""
        if self.choice and word not in self.choice:
            raise UsageError(f"{quoted(word)} is not one of {', '.join(self.choice)}")
        if self.name == "id" and not is_id(word):
            raise UsageError(f"{quoted(word)} is not {Id.wanted}")


@dataclass(frozen=True, slots=True)
class CommandArguments:
    """What a line gives for the parts of its pattern."""

    values: Mapping[str, tuple[str, ...]]    # words by the name of their part
    pairs: Mapping[str, str]                 # key → value

    def word(self, name: str) -> str:
        """Return the one word of a part; empty if an optional word is missing."""
        words = self.values.get(name, ())
        return words[0] if words else ""

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words of a part."""
        return self.values.get(name, ())


class Mismatch(Exception):
    """A line does not match a pattern; its first `literals` words do, and `why` may say more."""

    def __init__(self, literals: int, why: str = "") -> None:
        super().__init__(why)
        self.literals = literals
        self.why = why


class CommandPattern:
    """The words of one command."""

    def __init__(self, text: str) -> None:
        """Read a pattern; a ValueError is a mistake in a table of commands."""
        self.parts = tuple(_Part.parse(part) for part in text.split())
        self.usage = " ".join(part.text for part in self.parts)
        self.literals = tuple(part.name for part in self.parts if part.shape is Shape.LITERAL)

    def match(self, words: Sequence[str]) -> CommandArguments:
        """Return what `words` give; raises Mismatch."""
        values: dict[str, tuple[str, ...]] = {}
        pairs: dict[str, str] = {}
        left = list(words)
        literals = 0
        for index, part in enumerate(self.parts):
            if part.shape is Shape.LITERAL:
                if not left or left[0] != part.name:
                    raise Mismatch(literals)
                literals += 1
                del left[0]
                continue
            try:
                if part.shape is Shape.PAIRS:
                    pairs = _take_pairs(left)
                else:
                    values[part.name] = _take_words(part, left, self._has_pairs_after(index))
            except UsageError as why:
                raise Mismatch(literals, str(why)) from None
            if not part.optional and not (pairs if part.shape is Shape.PAIRS else values[part.name]):
                raise Mismatch(literals, f"{part.text} is missing")
        if left:
            raise Mismatch(literals, f"{quoted(left[0])} is one word too many")
        return CommandArguments(values, pairs)

    def _has_pairs_after(self, index: int) -> bool:
        return any(part.shape is Shape.PAIRS for part in self.parts[index + 1:])


@dataclass(frozen=True, slots=True)
class Command(Generic[_H]):
    """One row of the control language."""

    pattern: CommandPattern
    doc: str                                       # one or two sentences for help and man page
    handler: _H
    mask: Callable[..., str] | None = None         # words for the log, without secrets


class CommandSet(Generic[_H]):
    """The commands of one program, in the order of help and man page."""

    def __init__(self, *others: "CommandSet[_H]") -> None:
        """Start with the commands of `others`."""
        self._commands: list[Command[_H]] = [command for other in others for command in other]

    def __iter__(self) -> Iterator[Command[_H]]:
        return iter(self._commands)

    def add(self, pattern: str, doc: str, mask: Callable[..., str] | None = None) -> Callable[[_H], _H]:
        """Mark a function as the handler of `pattern`.

        `mask` is called like the handler and returns the words that the log may show; without it
        these are the words of the line.
        """
        def note(handler: _H) -> _H:
            self._commands.append(Command(CommandPattern(pattern), doc, handler, mask))
            return handler
        return note

    def find(self, words: Sequence[str]) -> tuple[Command[_H], CommandArguments]:
        """Return the command that `words` match, and what they give; raises UsageError."""
        near: list[tuple[Command[_H], Mismatch]] = []
        for command in self._commands:
            try:
                return command, command.pattern.match(words)
            except Mismatch as miss:
                near.append((command, miss))
        raise UsageError(_complaint(words, near))

    def known_words(self, words: Sequence[str]) -> int:
        """Return how many of the first `words` are literals of some command; the rest may even be a secret."""
        best = 0
        for command in self._commands:
            try:
                command.pattern.match(words)
            except Mismatch as miss:
                best = max(best, miss.literals)
        return best

    def help(self, begin: str = "") -> list[str]:
        """Return a line for each command whose usage starts with `begin`; raises UsageError if there is none."""
        chosen = [command for command in self._commands if command.pattern.usage.startswith(begin)]
        if not chosen:
            raise UsageError(f"no command begins with {quoted(begin)}")
        width = max(len(command.pattern.usage) for command in chosen)
        return [f"{command.pattern.usage:{width}}  {command.doc}" for command in chosen]


def split_words(line: str) -> list[str]:
    """Return the words of a line, split and unquoted as a shell would; raises UsageError."""
    try:
        words = shlex.split(line)
    except ValueError as why:
        raise UsageError(f"the line cannot be split into words: {why}") from None
    if len(words) > MAX_WORDS:
        raise UsageError(f"{len(words)} words are too many; at most {MAX_WORDS} are allowed")
    return words


def join_words(words: Iterable[str]) -> str:
    """Return a line that `split_words` splits into `words`, with quotes only where necessary."""
    return " ".join(word if word and _NEEDS_QUOTES.search(word) is None else shlex.quote(word) for word in words)


def _take_words(part: _Part, left: list[str], stops_at_pair: bool) -> tuple[str, ...]:
    """Take the words of a part off the front of `left`; raises UsageError."""
    taken: list[str] = []
    while left and (part.shape is Shape.MANY or not taken) and not (stops_at_pair and _is_pair(left[0])):
        part.take_word(left[0])
        taken.append(left.pop(0))
    return tuple(taken)


def _take_pairs(left: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    while left:
        key, equals, value = left[0].partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise UsageError(f"{quoted(left[0])} is not key=value")
        if key in pairs:
            raise UsageError(f"{key} is given twice")
        pairs[key] = value
        del left[0]
    return pairs


def _is_pair(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and _KEY.fullmatch(key) is not None


def _complaint(words: Sequence[str], near: list[tuple[Command[_H], Mismatch]]) -> str:
    """Return what is wrong with `words`, with the usages of the closest commands."""
    best = max((miss.literals for _, miss in near), default=0)
    word = words[best] if best < len(words) else ""
    unknown = f"no such command: {quoted(' '.join(words[:best + 1]))}"
    meant = similar(word, {name for command, miss in near if miss.literals == best
                           for name in command.pattern.literals[best:best + 1]})
    if meant:
        unknown += f"; did you mean '{' '.join((*words[:best], meant))}'?"
    if best == 0:
        return unknown if meant else f"{unknown}; try help"
    nearest = [(command.pattern.usage, miss.why) for command, miss in near if miss.literals == best]
    told = [why for _, why in nearest if why]
    if len(nearest) > 1 and len(told) != 1:
        usages = [f"usage: {usage}" for usage, _ in nearest]
        return "\n".join([*usages, unknown])
    usage, why = next(((usage, why) for usage, why in nearest if why), nearest[0])
    return f"{why}; usage: {usage}" if why else f"usage: {usage}"
