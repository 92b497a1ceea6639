"""Which changes only root may make at run time: to settings that load code or make the daemon open a path.

Whoever owns the INI file may make them, too, because `reload` does the same for them.  Where root owns the file, the
daemon's own user, whose processes clients talk to, may not.  Master only; raises UsageError.
"""

import os
from collections.abc import Iterable, Iterator

from popular.config.setting import Schema, Setting
from popular.config.store import Config, Source, Values
from popular.errors import UsageError
from popular.unix.rights import Peer


def want_right(peer: Peer, config: Config, new: Config, base: Config, schema: Schema) -> None:
    """Raise UsageError if `new`, wanted by `peer` in place of `config`, has values that only root may give.

    Values of the INI file (`base`) and defaults are nobody's choice, so everybody may restore them.
    """
    found = next(_given(config, new, base, schema), "")
    if found and peer.uid != 0 and not _owns(peer, base.source):
        owner = f" and the owner of {base.source.path}" if base.source else ""
        raise UsageError(f"{found}: only root{owner} may change this at run time")


def _given(config: Config, new: Config, base: Config, schema: Schema) -> Iterator[str]:
    """Yield the places of settings for root that have new values."""
    yield from _differing(schema.settings, new.variables, (config.variables, base.variables))
    for cls in schema.classes:
        for item in new.items(cls.name):
            known = [old.values for each in (config, base) if (old := each.item(cls.name, item.ident)) is not None]
            for name in _differing(cls.rows, item.values, known):
                yield f"{cls.name} {item.ident}: {name}"


def _differing(rows: Iterable[Setting], values: Values, known: Iterable[Values]) -> Iterator[str]:
    for row in rows:
        if row.root_only and values[row.name] not in (row.default, *(old[row.name] for old in known)):
            yield row.name


def _owns(peer: Peer, source: Source | None) -> bool:
    """Tell whether the INI file belongs to the peer; a file that is missing could be made by the folder's owner."""
    if source is None:
        return False
    for path in (source.path, os.path.dirname(source.path)):
        try:
            return os.stat(path).st_uid == peer.uid
        except FileNotFoundError:
            continue
        except OSError:    # a folder that we may not enter is not the peer's, unless they are root
            return False
    return False
