"""Log rows of the database modules, noted by the chain in the process that asks (a child of pproxy)."""

from popular.log.message import ADM, Message

PDM_FAILED = Message(
    0x02c0, ADM, "pdm_failed", "module user why",
    "A database module could not tell whether it knows the user: its database is broken or away, or the user's "
    "record is damaged. Unless another module accepts the user, the client hears [SYS/TEMP]. Mend what `why` names.")
PDM_INVALID = Message(
    0x02c1, ADM, "pdm_invalid_answer", "module user why",
    "A database module named a backend, protocol, mailbox or login that is not well-formed. It counts as failed. "
    "Mend the user's record.")
PDM_SLOW = Message(
    0x02c2, ADM, "pdm_slow_answer", "module seconds",
    "A database module took long for one answer. Sessions wait for it; look at its database and at pdmtimeout.")
