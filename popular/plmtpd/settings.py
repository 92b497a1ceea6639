"""The settings of plmtpd: one row per variable.

Read by the starter (INI file, options, documents) and by the master (`show`, `set`).
"""

from dataclasses import replace

from popular.config.kinds import Bool, Choice, Dir, File, Int, Time
from popular.config.netkinds import NetworkList
from popular.config.setting import Schema, Setting
from popular.daemon.settings import CONFINEMENT_ROWS, METRICS_ROWS, POOL_ROWS, process_rows
from popular.paths import SPOOLDIR
from popular.pdm.asking.configured import PDM_ROWS
from popular.plmtpd.kinds import IdList, Percents
from popular.plmtpd.objects import CLASSES

_MAXUSE = 100    # sessions: a child asks databases itself, and keeps its connections to them for the next ones
_POOL_ROWS = tuple(replace(row, default=_MAXUSE) if row.name == "maxuse" else row for row in POOL_ROWS)

_OWN_ROWS = (
    Setting("mailboxdir", Dir(), SPOOLDIR, "Root of all mailboxes, which may lie at any depth below.",
            root_only=True, option=("-m", "--mailboxdir")),
    Setting("missing", Choice("refuse", "create"), "refuse",
            "What happens to mail for a user whose mailbox does not exist: refuse answers 550, create makes the "
            "mailbox.  The user's record may say otherwise."),
    Setting("backends", IdList(), None,
            "Ids of the backends in the users' records whose mailboxes are on this host, separated by commas; when not "
            "set, all that have mailboxes."),
    Setting("maxsize", Int(0), 50 * 1024 * 1024, "Longest message in octets; 0 is no limit."),
    Setting("maxrecipients", Int(1, 10_000), 100,
            "Most recipients of one message; RFC 5321 requires at least 100.  The client sends it again to the rest."),
    Setting("idletimeout", Time(0.01, 86400), 300.0,
            "If the client neither sends nor takes a byte for this time, the connection is closed; RFC 5321 requires "
            "at least 5 minutes."),
    Setting("datatimeout", Time(1, 86400), 600.0, "Time within which a client must have sent the text of a message."),
    Setting("maxerrors", Int(1, 1000), 25,
            "The connection is closed after this number of commands refused for the client's own errors; unknown "
            "recipients do not count."),
)

_QUOTA_ROWS = (
    Setting("overquota", Choice("defer", "refuse"), "defer",
            "What a mailbox that is full answers: defer 452, so that the sender's server tries again for some days; "
            "refuse 552, so that the sender is told at once."),
    Setting("quota", Int(0, 1_000_000_000), 0,
            "How much the mailbox of a user may hold whose record does not say, in units of 1024*1024 octets; 0 is no "
            "limit."),
    Setting("maxnum", Int(0, 1_000_000_000), 0, "The same as a number of messages."),
    Setting("quotawarning", Percents(), None,
            "Levels in percent of the quota, such as 80, 95: when a mailbox reaches one, its user gets a message that "
            "says so.  When not set, nobody is warned."),
    Setting("quotamessage", File(), None,
            "File with that message, as pdeliver(1) describes it; when not set, a short English one.", root_only=True),
)

_HEADER_ROWS = (
    Setting("returnpath", Bool(), True,
            "Put the sender into a Return-Path header, as RFC 5321 asks of whoever makes the final delivery; one that "
            "the message already has is removed."),
    Setting("deliveredto", Bool(), False, "Put the recipient into a Delivered-To header."),
)

_TAKEOVER_ROWS = (
    Setting("takeover", NetworkList(), None,
            "Networks that may hand over mail of another server with its UIDL and time; when not set, none by TCP.  "
            "They can write to any mailbox.", root_only=True),
)

SCHEMA = Schema("plmtpd", (*process_rows("plmtpd"), *CONFINEMENT_ROWS, *_POOL_ROWS, *METRICS_ROWS, *_OWN_ROWS,
                           *_QUOTA_ROWS, *_HEADER_ROWS, *PDM_ROWS, *_TAKEOVER_ROWS), CLASSES,
                purpose="Mail delivery server: takes mail from mail servers by LMTP and writes it to mailboxes.")
