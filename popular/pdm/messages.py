"""Log messages about database modules, written in the process that asks them."""

from popular.log.message import ADM, Message

PDM_FAILED = Message(
    0x02c0, ADM, "pdm_failed", "module user why",
    "A database module could not tell whether it knows the user: its database is broken or unavailable, or the user's "
    "record is damaged. Unless another module accepts the user, the client gets [SYS/TEMP]. Fix what `why` names.")
PDM_INVALID = Message(
    0x02c1, ADM, "pdm_invalid_answer", "module user why",
    "A database module returned a backend, protocol, mailbox or login that is not well-formed. It counts as failed. "
    "Fix the user's record.")
PDM_OUTPUT = Message(
    0x0260, ADM, "pdm_output", "module line of text",
    "A database module, or what it uses, wrote to standard output or standard error while it answered: this is "
    "one line of the number in `of`; only the first ten are logged.  The password of the login is masked.  A module "
    "should not write there: errors belong in its answer.")
PDM_SLOW = Message(
    0x02c2, ADM, "pdm_slow_answer", "module seconds",
    "A database module took long for one answer. Sessions wait for it; check its database and pdmtimeout.")
