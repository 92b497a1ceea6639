"""Starting plmtpd: the starter's part of the program (`bin/plmtpd`)."""

import os
import sys
from functools import partial

from popular.config.mistakes import Findings, Mistake
from popular.config.setting import place
from popular.config.store import Config, sound
from popular.daemon.start.starter import main as start
from popular.daemon.start.trial import try_spool, why_not
from popular.daemon.tls import try_certificates
from popular.pdm.asking.configured import why_not_asked
from popular.plmtpd.spec import SPEC


def main() -> int:
    """Run `plmtpd`; returns its exit code."""
    return start(SPEC, sys.argv[1:], attempt=attempt)


def attempt(config: Config, findings: Findings, deep: bool) -> None:
    """Test certificates and, if `deep`, whether mailboxes can be accessed and database modules answer."""
    try_certificates("server", config.items("server"), findings)
    if not deep:
        return
    sound(lambda: try_spool("plmtpd", config.variables, findings), None)
    for item in config.items("pdm"):
        why = sound(partial(why_not_asked, item, config), "")
        if why:
            findings.faults.append(Mistake(place("pdm", item.ident), f"module {item.values.text('module')}: {why}"))
    path = sound(lambda: config.variables.optional_text("quotamessage"), None)
    if path and (why := why_not(path, os.R_OK)):
        findings.faults.append(Mistake(place("plmtpd", "quotamessage"), f"{path} cannot be read: {why}"))
    if config.items("server") and not config.items("pdm"):
        where = config.source.path if config.source else ""
        findings.warnings.append(Mistake(where, "there is no [pdm]: no user is known before a command adds one"))
