"""The lines of an INI file: the section and key of each, and what is wrong with their order and names.

Each line is read by the rules of configobj, so that files written by it are read in the same way.  Sections are
handled here, because reports need line numbers, and because the lines below a wrong section line are checked as well.
Starter only: configobj is heavy.  Raises nothing: reports are collected.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from configobj import ConfigObj

from popular.config.kinds import Id
from popular.config.setting import MAX_FOUND, Schema, place, quoted, similar
from popular.names import is_id

_TRIPLE = ("'''", '"""')


@dataclass(frozen=True, slots=True)
class _Key:
    """One `KEY = VALUE`."""

    number: int           # of its line
    value: str | None     # as in the file, without comment; None: known to be wrong


@dataclass(slots=True)
class Block:
    """The keys of one object, or of the program."""

    number: int                 # of its section line
    section: str
    ident: str = ""             # of the object; empty: the program's
    counts: bool = True         # False: only checked, because its name is taken
    keys: dict[str, _Key] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Its place, for reports."""
        return place(self.section, self.ident) if self.ident else place(self.section)


@dataclass(frozen=True, slots=True)
class _Report:
    """What is wrong with one line."""

    number: int
    what: str


class Scan:
    """The blocks of a file, and what is wrong with its lines."""

    def __init__(self, lines: Sequence[str], schema: Schema) -> None:
        """Read `lines`, without line ends."""
        self.blocks: list[Block] = []
        self.reports: list[_Report] = []
        self._lines = lines
        self._program = schema.program
        self._known: dict[str, Set[str]] = {schema.program: {row.name for row in schema.settings}}
        self._known.update((cls.name, {row.name for row in cls.rows}) for cls in schema.classes)
        self._reader = ConfigObj(interpolation=False, list_values=False)
        self._seen: dict[tuple[str, ...], int] = {}    # sections and objects, by the lines where they begin
        self._section = ""                             # the current one; empty: none yet
        self._block: Block | None = None               # where keys go; None: nowhere
        self._is_lost = False                          # below an unknown section
        index = 0
        while index < len(lines):
            index = self._read(index) + 1
        self.reports.sort(key=lambda report: report.number)

    def _read(self, index: int) -> int:
        """Read one line, or a value of several; returns the index of the last."""
        line = self._lines[index].strip()
        if line.startswith("["):
            self._read_header(index + 1, line)
        elif line and not line.startswith("#"):
            return self._read_key(index)
        return index

    def _report(self, number: int, what: str) -> None:
        self.reports.append(_Report(number, what))

    # sections

    def _read_header(self, number: int, line: str) -> None:
        found = self._reader._sectionmarker.match(line)
        name = _unquoted(found[3]) if found else line.partition("#")[0].strip("[] \t")
        depth = line.replace(" ", "").replace("\t", "").partition(name[:1] or "]")[0].count("[")
        if not name.strip("[] \t"):
            self._report(number, f"{quoted(line)} is not [SECTION], nor [[ID]] inside a section")
            return
        if not found or found[4].count("]") != depth:
            depth = 1 if name in self._known else min(depth, 2)
            self._report(number, f"{quoted(line)} has unequal brackets; write {'[' * depth}{_shown(name)}"
                         f"{']' * depth}")
        if depth == 1:
            self._open_section(number, name)
        elif depth == 2:
            self._open_object(number, name)
        else:
            self._report(number, f"[[[{_shown(name)}]]] is too deep; did you mean [[{_shown(name)}]]?")
            self._open_object(number, name)

    def _open_section(self, number: int, name: str) -> None:
        keys = self._keys_below(number)
        if name in self._known:
            first = self._seen.setdefault((name,), number)
            if first != number:
                self._report(number, f"[{name}] was already in line {first}; merge the two")
            self._enter(number, name)
        elif self._has_objects and self._fits(keys, self._section):
            self._report(number, f"unknown section [{_shown(name)}]; did you mean [[{_shown(name)}]], an object of "
                         f"[{self._section}]?")
            self._open_object(number, name)
        else:
            meant = similar(name, self._known)
            hint = f"; did you mean [{meant}]?" if meant else f"; there are {', '.join(self._known)}"
            self._report(number, f"unknown section [{_shown(name)}]{hint}")
            self._is_lost, self._block = True, None
            if meant:
                self._enter(number, meant)

    def _enter(self, number: int, name: str) -> None:
        """Enter a known section."""
        self._section, self._is_lost, self._block = name, False, None
        if name == self._program:
            self._block = next((block for block in self.blocks if block.section == name), None)
            if self._block is None:
                self._block = Block(number, name)
                self.blocks.append(self._block)

    def _open_object(self, number: int, ident: str) -> None:
        self._block = None
        if self._is_lost:
            return
        if not self._has_objects:
            keys = self._keys_below(number)
            fits = [name for name in self._known if name != self._program and self._fits(keys, name)]
            where = f"in [{self._section}], which has no objects" if self._section else "before any section"
            self._report(number, f"[[{_shown(ident)}]] stands {where}{f'; write [{fits[0]}] above it' if fits else ''}")
            if not fits:
                return
            self._section = fits[0]
        block = Block(number, self._section, ident)
        first = self._seen.setdefault((self._section, ident), number)
        if not is_id(ident):
            self._report(number, f"{quoted(ident)} is not {Id.wanted}")
            block.counts = False
        elif first != number:
            self._report(number, f"[[{ident}]] was already in [{self._section}] in line {first}")
            block.counts = False
        self._block = block
        self.blocks.append(block)

    @property
    def _has_objects(self) -> bool:
        return self._section not in ("", self._program) and not self._is_lost

    def _fits(self, keys: set[str], section: str) -> bool:
        """Tell whether at least half of these keys, wrong ones included, are keys of a section's objects."""
        return bool(keys) and 2 * len(keys & self._known[section]) >= len(keys)

    def _keys_below(self, number: int) -> set[str]:
        """Return the keys between a section line and the next one."""
        keys = set()
        for line in self._lines[number:]:
            if line.lstrip().startswith("["):
                break
            found = None if line.lstrip().startswith("#") else self._reader._keyword.match(line)
            if found:
                keys.add(_unquoted(found[2]))
        return keys

    # keys

    def _read_key(self, index: int) -> int:
        """Read a line that is not a section line; returns the index of the last line of its value."""
        number, line = index + 1, self._lines[index]
        found = self._reader._keyword.match(line)
        if found is None:
            self._report(number, self._rubbish(line.strip()))
            return index
        name, text = _unquoted(found[2]), found[3]
        value: str | None = None
        try:
            if text[:3] in _TRIPLE:
                value, _, index = self._reader._multiline(text, self._lines, index, len(self._lines) - 1)
            else:
                value, _ = self._reader._handle_value(text)
        except SyntaxError:    # without what follows `=`, which may be secret
            self._report(number, f"'{_shown(name)} = ...': the value begins with quotes that are not closed")
        self._add(number, name, value)
        return index

    def _add(self, number: int, name: str, value: str | None) -> None:
        if self._is_lost:
            return
        if not self._section:
            hint = f"; write [{self._program}] above it" if name in self._known[self._program] else ""
            self._report(number, f"'{_shown(name)}' stands before any section{hint}")
            if not hint:
                return
            self._enter(number, self._program)
        block = self._block
        if block is None:
            if self._has_objects:
                self._report(number, f"'{_shown(name)}' stands in [{self._section}] before any [[ID]]")
            return
        known = self._known[block.section]
        if name not in known:
            meant = similar(name, known)
            self._report(number, f"{block.place}: unknown key {_quoted(name)}{self._hint(name, meant)}")
            if meant:
                block.keys.setdefault(meant, _Key(number, None))    # any further report about it would be wrong
        elif name in block.keys and block.keys[name].value is not None:
            self._report(number, f"{block.place}: '{name}' was already in line "
                         f"{block.keys[name].number}")
        else:
            block.keys[name] = _Key(number, value)

    def _hint(self, name: str, meant: str) -> str:
        homes = [section for section, known in self._known.items() if name in known]
        if homes:
            return f", which belongs in {' or '.join(f'[{section}]' for section in homes)}"
        return f"; did you mean '{meant}'?" if meant else ""

    def _rubbish(self, line: str) -> str:
        word = line.replace(":", " ").split()[0] if line.replace(":", "").strip() else ""
        if any(word in known for known in self._known.values()):
            return f"there is no = after {word}; write {word} = VALUE"
        return f"{quoted(line)} is not [SECTION], [[ID]] or KEY = VALUE"


def _unquoted(name: str) -> str:
    """Return a name without the quotes around it."""
    name = name.strip()
    return name[1:-1].strip() if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" else name


def _shown(name: str) -> str:
    """Return a name for a report that has quotes or brackets around it."""
    return name if name.isprintable() and len(name) <= MAX_FOUND else quoted(name)[1:-1]


def _quoted(name: str) -> str:
    return f"'{_shown(name)}'"
