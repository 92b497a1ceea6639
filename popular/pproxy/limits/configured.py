"""The limits for clients as the settings give them: `client_limits` runs in the master, for each configuration."""

import os
from functools import lru_cache
from typing import Any, cast

from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import place
from popular.config.store import Values
from popular.networks import Networks, file_words
from popular.pproxy.limits.clients import ClientLimits
from popular.statefile.slot import MakeKey, session_key

_LEAST_OF_ADDRESS, _PART_OF_ADDRESS = 10, 10    # of maxsession, where nothing is set
_LEAST_OF_NETWORK, _PART_OF_NETWORK = 20, 4
_PLAIN = ("exempt", "addressprefix", "networkprefix", "addressrate", "networkrate", "maxfailures", "failuretime",
          "usersessions")


def client_limits(values: Values) -> ClientLimits:
    """Return the limits from variables, some of which a virtual server may override.

    Raises ConfigError for a `denyfile` that cannot be read.
    """
    maxsession = values.integer("maxsession")
    key: MakeKey = session_key
    if values.get("sharewith") is not None:
        from popular.pproxy.limits.sharing.shared import common_key as key    # here, as nobody else shall pay for it
    return ClientLimits(
        allow=cast(Networks, values["allow"] or Networks()),
        deny=cast(Networks, values["deny"] or Networks()),
        denied_by_file=denied_by_file(values),
        addresssessions=_of_pool(values["addresssessions"], maxsession, _LEAST_OF_ADDRESS, _PART_OF_ADDRESS),
        networksessions=_of_pool(values["networksessions"], maxsession, _LEAST_OF_NETWORK, _PART_OF_NETWORK),
        key=key,
        **cast(dict[str, Any], {name: values[name] for name in _PLAIN}))


def denied_by_file(values: Values) -> Networks:
    """Return the networks in `denyfile`; raises ConfigError."""
    path = values.optional_text("denyfile")
    if path is None:
        return Networks()
    try:
        status = os.stat(path)
        return _read(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError) as why:
        text = why.strerror if isinstance(why, OSError) else str(why)
        raise ConfigError([Mistake(place("pproxy", "denyfile"), f"{path}: {text}")]) from why


@lru_cache(maxsize=1)
def _read(path: str, *status: int) -> Networks:
    """Return the networks in a file; remembered as long as its `status` is the same."""
    with open(path, encoding="ascii", errors="replace") as file:
        return Networks.read(file_words(file), path)


def shared_values(values: Values) -> Values | None:
    """Return what `sharewith` says, by name; None: nothing is shared.  Raises ConfigError."""
    text = values.optional_text("sharewith")
    if text is None:
        return None
    from popular.pproxy.limits.sharing.shared import read_options    # here, as above

    try:
        return read_options(text)
    except ValueError as why:
        raise ConfigError([Mistake(place("pproxy", "sharewith"), str(why))]) from why


def _of_pool(value: object, maxsession: int, least: int, part: int) -> int:
    return max(least, maxsession // part) if value is None else cast(int, value)
