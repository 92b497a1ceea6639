"""The settings of pclean: one row per variable and per key of a rule, and the rules made from them.

Read by the tool itself and by the script that makes man page and sample.  Data and pure functions; raises nothing.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from popular.config.kinds import Bool, Choice, Dir, File, Id, Int, String, Time
from popular.config.mistakes import Mistake
from popular.config.setting import ObjectClass, Schema, Setting, place
from popular.config.store import Config, Item
from popular.paths import LOGDIR, SMTPFILE, SPOOLDIR
from popular.store.quota import Quota
from popular.tools.pclean.expire import Ages

_HOUR = 3600.0
_DAY = 24 * _HOUR
_LONGEST = 36500 * _DAY
NOTHING, EMPTY, OVERQUOTA, ALL = "none", "empty", "overquota", "all"    # what may be reported

VARIABLES = (
    Setting("mailboxdir", Dir(), SPOOLDIR, "Root of all mailboxes, which may lie at any depth below.",
            option=("-m", "--mailboxdir")),
    Setting("logfile", File(), f"{LOGDIR}/pclean", "The log file.", option=("-l", "--logfile")),
    Setting("user", Id(), "pop", "The user to become when started as root; they must own the mailboxes.",
            option=("-u", "--user")),
    Setting("group", Id(), None,
            "The group to become when started as root; the primary group of the user when not set.",
            option=("-g", "--group")),
    Setting("tmpage", Time(_HOUR, _LONGEST), 36 * _HOUR,
            "Files in tmp/ that were not written to for this time are removed."),
    Setting("removeafter", Time(0, _LONGEST), 7 * _DAY,
            "A mailbox is removed when its mark as removed is older than this."),
    Setting("report", Choice(NOTHING, EMPTY, OVERQUOTA, ALL), NOTHING,
            "Which mailboxes are listed on standard output: those without mail, those that are over the quota of their "
            "rule, or both.", option=("--report",)),
    Setting("statefile", File(), None,
            "The file that records how far a run has got; when not set, .pclean in mailboxdir."),
    Setting("statetime", Time(0, _HOUR), 5.0,
            "How often it is recorded how far a run has got; 0 means after each mailbox."),
    Setting("pause", Time(0, 10), 0.0, "How long to wait after each mailbox, to leave the disks to other programs.",
            option=("--pause",)),
    Setting("smtpafterpopfile", File(), SMTPFILE,
            "The database of SMTP after POP, see pproxy(8), from which expired records are removed; nothing is "
            "done if it does not exist."),
    Setting("dryrun", Bool(), False,
            "Change nothing and log nothing, but print on standard output what would be done to each mailbox.",
            option=("-n", "--dry-run")),
    Setting("resume", Bool(), False, "Continue where the last run was interrupted, if it was.", option=("--resume",)),
    Setting("verbose", Bool(), False, "Print on standard output what is done to each mailbox, and to which files.",
            option=("-v", "--verbose")),
)

RULE = ObjectClass(
    "rule",
    "What happens to the mail of some mailboxes. "
    "The first rule whose pattern matches the name of a mailbox holds for it; a mailbox that no rule matches keeps all "
    "its mail. "
    "The age of a message counts from its delivery.",
    (
        Setting("mailbox", String(512), None,
                "Pattern of the names of mailboxes: * stands for any characters including slashes, ? for one, [abc] "
                "for one of these.", required=True),
        Setting("read", Time(_HOUR, _LONGEST), None, "Mail that was read is removed when it is older."),
        Setting("unread", Time(_HOUR, _LONGEST), None, "Mail that was not read is removed when it is older."),
        Setting("keep", Bool(), False,
                "Remove no mail, and no mailbox that is marked as removed; old files in tmp/ are still removed."),
        Setting("quota", Int(0, 1_000_000_000), 0,
                "A mailbox that holds this many times 1024*1024 octets is over its quota; 0 means no check."),
        Setting("maxnum", Int(0, 1_000_000_000), 0,
                "A mailbox that holds this many mails is over its quota; 0 means no check."),
    ))

SCHEMA = Schema("pclean", VARIABLES, (RULE,), foreground=(),
                purpose="Clean up mailboxes from cron: leftovers of deliveries, old mail by rules, removed mailboxes.")


@dataclass(frozen=True, slots=True)
class Rule:
    """What applies to one mailbox."""

    ages: Ages
    keeps: bool = False
    quota: Quota = Quota()


class Rules:
    """All rules in their order."""

    def __init__(self, rules: Iterable[tuple[str, Rule]], otherwise: Rule) -> None:
        """Take patterns with their rules, and the rule for names that no pattern matches."""
        self._rules = [(re.compile(fnmatch.translate(pattern)), rule) for pattern, rule in rules]
        self._otherwise = otherwise

    def of(self, mailbox: str) -> Rule:
        """Return the rule for a mailbox."""
        for pattern, rule in self._rules:
            if pattern.match(mailbox):
                return rule
        return self._otherwise


def rules_of(config: Config) -> Rules:
    """Return the rules of a configuration."""
    tmp = config.variables.seconds("tmpage")
    return Rules([(item.values.text("mailbox"), _rule(item, tmp)) for item in config.items("rule")], Rule(Ages(tmp)))


def mistakes(config: Config) -> list[Mistake]:
    """Return mistakes that are not in single rows."""
    return [Mistake(place("rule", item.ident, "mailbox"), "'mailbox' is missing: a pattern, for example a/*")
            for item in config.items("rule") if not item.values.text("mailbox").strip()]


def _rule(item: Item, tmp: float) -> Rule:
    values = item.values
    keeps = values.flag("keep")
    ages = Ages(tmp) if keeps else Ages(tmp, values.optional_seconds("read"), values.optional_seconds("unread"))
    return Rule(ages, keeps, Quota.of_mebibytes(values.integer("quota"), values.integer("maxnum")))
