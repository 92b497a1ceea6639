"""Log messages about database modules, written by the chain in the process that asks (a child of pproxy)."""

from popular.log.message import ADM, Message

PDM_FAILED = Message(
    0x02c0, ADM, "pdm_failed", "module user why",
    "A database module could not tell whether it knows the user: its database is broken or unavailable, or the user's "
    "record is damaged. Unless another module accepts the user, the client gets [SYS/TEMP]. Fix what `why` names.")
PDM_INVALID = Message(
    0x02c1, ADM, "pdm_invalid_answer", "module user why",
    "A database module returned a backend, protocol, mailbox or login that is not well-formed. It counts as failed. "
    "Fix the user's record.")
PDM_SLOW = Message(
    0x02c2, ADM, "pdm_slow_answer", "module seconds",
    "A database module took long for one answer. Sessions wait for it; check its database and pdmtimeout.")
