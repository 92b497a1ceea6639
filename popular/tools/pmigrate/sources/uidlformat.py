"""The ids that Dovecot's POP3 server gives by its setting pop3_uidl_format, in the languages of 2.3 and 2.4.

Part of pmigrate.  Raises SourceError for what is not known.
"""

import re
from dataclasses import dataclass

from popular.tools.pmigrate.sources.source import SourceError

_KEYS = {"u": "uid", "v": "uidvalidity", "g": "guid", "f": "filename", "m": "md5"}
_SHORT = r"%(?P<zero>0?)(?P<width>[0-9]{0,2})(?P<hex>X?)(?P<key>[a-zA-Z])"
_LONG = (r"%(?P<lzero>0?)(?P<lwidth>[0-9]{0,2})(?P<lhex>X?)"
         r"\{ *(?P<lkey>[a-z]+) *(?:\| *hex(?:\((?P<digits>[0-9]{1,2})\))? *)?\}")
_PART = re.compile(f"{_LONG}|{_SHORT}|(?P<percent>%%)|(?P<other>%)", re.ASCII)


@dataclass(frozen=True, slots=True)
class DovecotIdentity:
    """What Dovecot knows a message by."""

    uid: int
    uidvalidity: int
    guid: str = ""
    filename: str = ""    # of a Maildir, up to the flags


def uidl_of(form: str, identity: DovecotIdentity) -> str:
    """Return the unique id of a message by a format such as `%08Xu%08Xv` or `%{uid | hex(8)}`; raises SourceError."""
    def value(found: re.Match[str]) -> str:
        if found["percent"]:
            return "%"
        key = found["lkey"] or _KEYS.get(found["key"] or "", "")
        told = getattr(identity, key, "") if key in ("uid", "uidvalidity", "guid", "filename") else ""
        if told == "":
            raise SourceError(f"pop3_uidl_format = {form}: {found[0]} cannot be told here")
        is_hex = bool(found["hex"] or found["lhex"] or "hex" in found[0])
        width = int(found["digits"] or found["width"] or found["lwidth"] or 0)
        text = f"{told:x}" if is_hex and isinstance(told, int) else str(told)
        return text.rjust(width, "0" if found["digits"] or found["zero"] or found["lzero"] else " ")
    return _PART.sub(value, form)
