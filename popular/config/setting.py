"""Rows: one `Setting` describes everything about one value that an administrator can give.

The INI reader, the command line, `show`, `set`, the man pages and the sample files are all made
from these rows, which are in the `settings.py` and `objects.py` of their owners.  Lean: read
by the starter, the master, the children and the tools.  Data only; `parse` raises ValueError.
"""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass

from popular.config.kinds import Choice, Kind

MAX_FOUND = 80    # characters of a wrong value that a report repeats


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable, or one key of an object.

    `default` is a value, not a text.  None means that an object must have the value (`required`),
    or else that the value is optional: it is not shown until it is given.
    """

    name: str
    kind: Kind
    default: object
    doc: str                         # one or two sentences for the man page and the sample file
    _: KW_ONLY
    readonly: bool = False           # no `set` while running
    at_start: bool = False           # a read-only row that the file may still set; options imply it
    option: tuple[str, ...] = ()     # of the command line: ("-l", "--logfile")
    root_only: bool = False          # only root may `set` it: it loads code, or makes the daemon open a path
    secret: bool = False             # reports of mistakes say *** instead of the value
    required: bool = False           # every object must have it

    @property
    def is_optional(self) -> bool:
        """Tell whether there may be no value at all."""
        return self.default is None and not self.required

    @property
    def starts(self) -> bool:
        """Tell whether the INI file and the command line may set it (`rundir`, for example, but never `pid`)."""
        return not self.readonly or self.at_start or bool(self.option)

    def parse(self, text: str) -> object:
        """Return the value of `text`; the empty text removes an optional value; raises ValueError."""
        if self.is_optional and not text.strip():
            return None
        value: object = self.kind.parse(text)
        return value

    def show(self, value: object) -> str | None:
        """Return the text of `value`, or None where an optional value is not given."""
        return None if value is None else self.kind.show(value)

    def complaint(self, text: str, why: ValueError) -> str:
        """Return what is wrong with `text`, which `parse` refused: `'0' is not between 1 and 1000`."""
        hint = did_you_mean(text.strip().lower(), self.kind.words) if isinstance(self.kind, Choice) else ""
        return f"{self.found(text)} is not {why}{hint}"

    @property
    def missing(self) -> str:
        """The report of a missing required value: its name and the first sentence about it."""
        about = self.doc.partition(".  ")[0].rstrip(".")
        return f"'{self.name}' is missing: {about[:1].lower()}{about[1:]}"

    def found(self, text: str) -> str:
        """Return `text` as a report of a mistake may repeat it: quoted, short, and masked when secret."""
        if self.secret:
            return "***"
        return quoted(text)


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """Configured objects of one class: a section of the INI file with one subsection for each."""

    name: str                        # "vserv"
    doc: str
    rows: tuple[Setting, ...]
    is_read: bool = False            # commands do not give its values; they are read from a separate file

    def row(self, name: str) -> Setting | None:
        """Return the row called `name`."""
        return _row(self.rows, name)


@dataclass(frozen=True, slots=True)
class Schema:
    """Everything that can be configured in one program."""

    program: str
    settings: tuple[Setting, ...]
    classes: tuple[ObjectClass, ...] = ()
    foreground: tuple[str, ...] = ("--foreground",)    # the option's names; none: a tool
    purpose: str = ""                                  # what the program is for, on one line

    def variable(self, name: str) -> Setting | None:
        """Return the row of the variable `name`."""
        return _row(self.settings, name)

    def object_class(self, name: str) -> ObjectClass | None:
        """Return the object class called `name`."""
        for cls in self.classes:
            if cls.name == name:
                return cls
        return None


def place(*keys: str) -> str:
    """Return the place of a value, for reports: `[vserv] main: address`, `[pproxy] user`."""
    words = [key if key.isprintable() and len(key) <= MAX_FOUND else quoted(key) for key in keys]
    return ": ".join([f"[{words[0]}] {words[1]}", *words[2:]]) if len(words) > 1 else f"[{words[0]}]"


def quoted(text: str) -> str:
    """Return `text` in quotes on one line, cut to `MAX_FOUND` characters."""
    return repr(text) if len(text) <= MAX_FOUND else repr(text[:MAX_FOUND]) + "..."


def similar(name: str, known: Iterable[str]) -> str:
    """Return the `known` name that is most like a wrong one; empty if none is similar."""
    import difflib    # here, because only mistakes need it, and no child should load it

    found = difflib.get_close_matches(name, sorted(known), 1)
    return found[0] if found else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a report of a wrong name, `; did you mean 'user'?`; empty if no `known` name is similar."""
    found = similar(name, known)
    return f"; did you mean '{found}'?" if found else ""


def _row(rows: tuple[Setting, ...], name: str) -> Setting | None:
    for row in rows:
        if row.name == name:
            return row
    return None
