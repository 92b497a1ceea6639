"""The arguments of a database module as words KEY=VALUE, read by a table of rows.

A module has one table, `OPTIONS = Options(Setting(…), …)`, from which its arguments are parsed, described with
secrets masked, and documented in popular-pdm(7).  `Options.parse` runs in the constructor of a module, in the
starter and the lean master; `secret` and `read_secret` open a file and run in the process that asks.

The rows are those of the INI file (popular.config).  This module also offers their kinds, so that database
modules import only popular.pdm.
"""

import os
import shlex
import stat
from collections.abc import Iterator, Sequence

from popular.config.kinds import Addresses, Bool, Choice, File, Float, Id, Int, Kind, String, Time
from popular.config.setting import Setting, did_you_mean, quoted
from popular.config.store import Values
from popular.pdm import records
from popular.pdm.api import PdmError

__all__ = ["Addresses", "Bool", "Choice", "File", "Float", "Id", "Int", "Kind", "Options", "Setting", "String", "Time",
           "Values", "did_you_mean", "read_secret", "secret", "secret_rows"]

MAX_SECRET = 4096    # octets of a file with a secret


class Options:
    """The table of a module's arguments: one row for each key."""

    def __init__(self, *rows: Setting) -> None:
        """Take the rows, in the order in which they are documented; no two have the same name."""
        self.rows = rows

    def parse(self, words: Sequence[str]) -> Values:
        """Return all values by name, with defaults for keys not given.

        File names must begin with a slash.  Raises ValueError for the first mistake, with a text that repeats no
        value of a secret row.
        """
        given: dict[str, object] = {}
        for number, word in enumerate(words, 1):
            name, equals, text = word.partition("=")
            if not equals:    # not repeated, as it may be part of a secret that lacks its quotes
                raise ValueError(f"argument {number} is not KEY=VALUE, or quotes are missing; {self._keys}")
            row = self._row(name)
            if name in given:
                raise ValueError(f"{name} is given twice")
            given[name] = _value(row, text)
        for row in self.rows:
            if row.required and given.get(row.name) is None:
                raise ValueError(row.missing)
            if row.secret and None not in (given.get(row.name), given.get(f"{row.name}file")):
                raise ValueError(f"give {row.name} or {row.name}file, not both")
        return Values({row.name: given.get(row.name, row.default) for row in self.rows})

    def describe(self, words: Sequence[str]) -> str:
        """Return words that `parse` has accepted, quoted as for a shell, with `***` for the values of secret rows."""
        return shlex.join(self._masked(words))

    def _masked(self, words: Sequence[str]) -> Iterator[str]:
        secrets = {row.name for row in self.rows if row.secret}
        for word in words:
            name = word.partition("=")[0]
            yield f"{name}=***" if name in secrets else word

    def _row(self, name: str) -> Setting:
        for row in self.rows:
            if row.name == name:
                return row
        hint = did_you_mean(name, [row.name for row in self.rows]) or f"; {self._keys}"
        raise ValueError(f"unknown key {quoted(name)}{hint}")

    @property
    def _keys(self) -> str:
        return f"the keys are {', '.join(row.name for row in self.rows)}"


def secret_rows(name: str, what: str) -> tuple[Setting, Setting]:
    """Return two rows for one secret: `NAME`, given directly, and `NAMEfile`, the file that it is in.

    `what` completes `The …`, for example `password of the database user`.
    """
    return (Setting(name, String(), None, f"The {what}.  Other users of the machine may see it in the configuration: "
                    f"{name}file is safer.", secret=True),
            Setting(f"{name}file", File(), None, f"A file with the {what} as its only line.  "
                    "The user that pproxy runs as must be able to read it, and not everybody."))


def secret(values: Values, name: str) -> str:
    """Return the secret of `secret_rows(name, …)`, empty if neither key was given; raises PdmError as `read_secret`.

    A table may have the second of these rows only.
    """
    direct = values.optional_text(name) if name in values else None
    if direct is not None:
        return direct
    path = values.optional_text(f"{name}file")
    return "" if path is None else read_secret(path)


def read_secret(path: str) -> str:
    """Return the only line of a file, without its line end.

    Raises PdmError if the file cannot be read, can be read or written by everybody, or has no such line.
    """
    records.prove_file(path)
    try:
        with open(path, "rb") as file:
            mode, raw = os.fstat(file.fileno()).st_mode, file.read(MAX_SECRET + 1)
    except OSError as why:
        raise PdmError(f"{path}: {why.strerror}") from None
    if mode & stat.S_IROTH:
        raise PdmError(f"{path}: can be read by everybody: chmod o-r {shlex.quote(path)}")
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not line or len(raw) > MAX_SECRET or b"\n" in line or b"\0" in line:
        raise PdmError(f"{path}: must have one line of at most {MAX_SECRET} octets")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise PdmError(f"{path}: not UTF-8") from None


def _value(row: Setting, text: str) -> object:
    """Return the value of a text; raises ValueError with the name of the row."""
    try:
        value = row.parse(text)
    except ValueError as why:
        raise ValueError(f"{row.name}: {row.complaint(text, why)}") from None
    if isinstance(row.kind, File) and value is not None and not os.path.isabs(text):
        raise ValueError(f"{row.name}: {row.found(text)} does not begin with /")
    return value
