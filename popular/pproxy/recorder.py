"""Recording clients that logged in, so that they may send mail (SMTP after POP).

Made in the master if a virtual server has `smtpafterpop`, else not even imported.  Used in children after the client
has got the answer to PASS, so that no login waits for it.  Raises nothing: failures to write are logged at most once
a minute, by all children together.
"""

import mmap
import struct
import time

from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.pproxy.messages import SMTP_NOT_RECORDED
from popular.smtpafterpop.clients import Clients, ClientsError

# Seconds to wait for another writer.  One of ours needs less than a millisecond, but with 200 at once some wait for
# more than 20 ms, because the writing process has to wait for the processor.
_PATIENCE = 0.25
REST_SECONDS = 1.0    # seconds after a failure in which no session with a client tries, so that few wait for a lock
_SURPLUS = 0.25       # the part of its lifetime by which a record lasts longer, and in which it need not be renewed

SLOTS = 4096       # of the notebook

_SLOT = struct.Struct("=Qd")


class Notebook:
    """Which addresses were recorded recently, in memory that all children share.

    Several addresses may need the same slot: the last one gets it.  Times are monotonic.
    """

    def __init__(self) -> None:
        """Start empty; needs no descriptor and is freed with the last process that has it."""
        self._memory = mmap.mmap(-1, _SLOT.size * (SLOTS + 1))    # the last one is for `rest`

    def is_fresh(self, address: str, now: float) -> bool:
        """Tell whether an address need not be recorded again."""
        key = hash(address) & 0xffff_ffff_ffff_ffff    # the same in all children, and unknown outside
        noted, until = _SLOT.unpack_from(self._memory, key % SLOTS * _SLOT.size)
        return bool(noted == key and now < until)

    def note(self, address: str, until: float) -> None:
        """Note that an address need not be recorded again before `until`."""
        key = hash(address) & 0xffff_ffff_ffff_ffff
        at = key % SLOTS * _SLOT.size
        self._memory[at:at + _SLOT.size] = _SLOT.pack(key, until)

    def is_resting(self, now: float) -> bool:
        """Tell whether no session should try to record now."""
        return bool(now < _SLOT.unpack_from(self._memory, SLOTS * _SLOT.size)[1])

    def rest(self, until: float) -> None:
        """Let no session try before `until`."""
        self._memory[SLOTS * _SLOT.size:] = _SLOT.pack(0, until)


class Recorder:
    """Records clients that have logged in."""

    def __init__(self, path: str, lifetime: float, former: "Recorder | None" = None) -> None:
        """Record in the file `path`, for at least `lifetime` seconds; `former`: the recorder that this one replaces."""
        self.path = path
        self.lifetime = lifetime
        self._surplus = lifetime * _SURPLUS
        self._clients = Clients(path, _PATIENCE)
        self._notebook = Notebook()
        self._once: OnceAMinute = OnceAMinute() if former is None else former._once

    def prepare(self, log: Log) -> None:
        """Make the file if there is none; called in the master, which does not keep it open."""
        try:
            self._clients.prepare()
        except ClientsError as why:
            self._complain(log, "", why)

    def record(self, address: str, log: Log, *, is_last_try: bool = False) -> bool:
        """Let the client at `address` send mail; return False if that could not be written now, but may be later.

        An address with a zone is not recorded: on another link it is another client.
        """
        now = time.monotonic()
        if "%" in address or self._notebook.is_fresh(address, now):
            return True
        if self._notebook.is_resting(now) and not is_last_try:
            return False
        try:
            self._clients.add(address, int(time.time() + self.lifetime + self._surplus) + 1)
        except ClientsError as why:
            self._notebook.rest(time.monotonic() + REST_SECONDS)
            self._complain(log, address, why)
            return False
        self._notebook.note(address, now + self._surplus)
        return True

    def _complain(self, log: Log, client: str, why: ClientsError) -> None:
        if self._once.is_due():
            log.note(SMTP_NOT_RECORDED, client=client, path=self.path, why=str(why))
