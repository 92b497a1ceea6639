"""Names of mailboxes made from names of users by a pattern, for example `%1h/%2h/%u`, which makes `9/3e/joe.doe`.

    %u  the user's name            %l  its part before the last `@`      %1h to %8h  the next 1 to 8 digits
    %n  the namespace              %d  its part after the last `@`       %%          a percent sign

The digits are those of the MD5 sum of the user's name, hexadecimal, in lower case, from the left; each mark takes the
next ones.  Folders with such names stay small and of equal size, whatever users are called, and every database, script
and mail transfer agent can compute them: `printf %s joe.doe | md5sum`.

A database module may also allow `%{NAME}`, for what the database has by this name.

Used by database modules, in the process that asks, and by pmailbox, so that all agree.  Raises ValueError for a wrong
pattern.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

MARKS = "%u, %l, %d, %n, %1h to %8h or %%"
MAX_DIGITS = 32    # of an MD5 sum

_MARK = re.compile(r"%([1-8]h|\{[A-Za-z0-9][A-Za-z0-9._;-]*\}|.?)", re.DOTALL)
_PART = re.compile(r"[A-Za-z0-9_+=%-][A-Za-z0-9._+=%-]*", re.ASCII)    # nobody may name another user's folder
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Pattern:
    """A valid pattern."""

    __slots__ = ("text", "names", "marks", "_takes_digits", "_digits_of")

    def __init__(self, text: str, *, with_names: bool = False) -> None:
        """Raise ValueError for unknown marks, and for more digits than an MD5 sum has.

        With `with_names`, `%{NAME}` is allowed; `names` then has these names, in lower case.  `marks` has the letters
        u, l, d and n that are used.
        """
        marks: list[str] = _MARK.findall(text)
        for mark in marks:
            if mark not in {*"unld%"} and (len(mark) < 2 or (mark[0] == "{" and not with_names)):
                more = "%{NAME}, " if with_names else ""
                raise ValueError(f"%{mark} is unknown in {text}; allowed are {more}{MARKS}")
        self.names = frozenset(mark[1:-1].lower() for mark in marks if mark[:1] == "{")
        digits = sum(int(mark[0]) for mark in marks if len(mark) == 2)
        if digits > MAX_DIGITS:
            raise ValueError(f"{text} takes {digits} digits; there are only {MAX_DIGITS}")
        self.text = text
        self.marks = frozenset(marks) & {*"unld"}
        self._takes_digits = digits > 0
        if digits:
            self._digits_of = _md5()

    @property
    def is_constant(self) -> bool:
        """Tell whether every user gets the same text."""
        return not (self.names or self.marks or self._takes_digits)

    def fill(self, user: str, namespace: str, values: Mapping[str, str] = _NOTHING,
             escape: Callable[[str], str] = str) -> str:
        """Return the pattern with everything filled in; the result is not checked.

        `values` are those of `names`; missing ones are empty.  `escape` is applied to what replaces a mark.
        """
        return self._filled(_parts_of(user, namespace), user, values, escape)

    def mailbox(self, user: str, namespace: str, values: Mapping[str, str] = _NOTHING) -> str | None:
        """Return the name of a mailbox, or None if these names give none.

        That is so if a part that the pattern uses is empty, begins with a dot or holds anything but
        `A-Z a-z 0-9 . _ - + = %`, and if the whole is empty, begins with a slash or has two dots in a row.  The
        pattern's own text and `values`, which the user does not choose, are not checked further.
        """
        parts = _parts_of(user, namespace)
        if any(_PART.fullmatch(parts[mark]) is None for mark in self.marks):
            return None
        name = self._filled(parts, user, values, str)
        return name if name and ".." not in name and name[0] != "/" else None

    def _filled(self, parts: dict[str, str], user: str, values: Mapping[str, str],
                escape: Callable[[str], str]) -> str:
        digits = iter(self._digits_of(user) if self._takes_digits else "")

        def replace(mark: re.Match[str]) -> str:
            word = mark[1]
            if word[0] == "{":
                return escape(values.get(word[1:-1].lower(), ""))
            if len(word) == 2:
                return "".join(next(digits) for _ in range(int(word[0])))
            return escape(parts[word]) if word != "%" else word
        return _MARK.sub(replace, self.text)


def pattern_of_levels(levels: list[int]) -> str:
    """Return a pattern for folders with these numbers of digits, the user's name below: [1, 2] is `%1h/%2h/%u`."""
    return "".join(f"%{digits}h/" for digits in levels) + "%u"


def _parts_of(user: str, namespace: str) -> dict[str, str]:
    local, _, domain = user.rpartition("@")
    return {"u": user, "n": namespace, "l": local or user, "d": domain if local else "", "%": "%"}


def _md5() -> Callable[[str], str]:
    """Return the function that gives the digits for a name."""
    # Imported here because hashlib loads OpenSSL: 16 more memory mappings, which every fork of a master has to copy.
    from hashlib import md5

    return lambda user: md5(user.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
