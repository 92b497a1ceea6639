"""The source that a word names.

Part of pmigrate.  Raises SourceError.
"""

import re
from urllib.parse import unquote

from popular.addresses import Endpoint, parse_endpoint
from popular.tools.pmigrate.doveadm import Doveadm
from popular.tools.pmigrate.job import MoveJob, MoveOptions
from popular.tools.pmigrate.maildir import MaildirSource
from popular.tools.pmigrate.mbox import Mbox
from popular.tools.pmigrate.pop3 import POP3_PORTS, Pop3Login, Pop3Source, Pop3Server
from popular.tools.pmigrate.source import MailSource, SourceError

_URL = re.compile(r"(pop3s?|xpop)://(?:([^@/]*)@)?(\[[^]/]*\]|[^:/\[\]]*)(?::([0-9]{1,5}))?(?:/(.*))?")


def open_source(job: MoveJob, options: MoveOptions) -> MailSource:
    """Return the source of a job, connected or locked; `close` must follow."""
    kind, colon, rest = job.source.partition(":")
    if rest.startswith("//"):
        return _open_server(job.source, job, options)
    if colon and rest:
        match kind:
            case "maildir" | "dovecot" | "courier" | "qmail":
                return MaildirSource(rest, kind, options.uidlformat, options.dovecot)
            case "mbox":
                return Mbox(rest, options.wait, options.quoting, options.uidls)
            case "doveadm":
                return Doveadm(rest, options.dovecot)
    raise SourceError(f"{job.source}: must be maildir:PATH, dovecot:PATH, courier:PATH, qmail:PATH, mbox:PATH, "
                      "doveadm:USER, pop3://HOST, pop3s://HOST or xpop://HOST/MAILBOX")


def _open_server(word: str, job: MoveJob, options: MoveOptions) -> MailSource:
    """Return a mailbox on a POP3 server."""
    found = _URL.fullmatch(word)
    if found is None or not found[3]:
        raise SourceError(f"{word}: must be pop3://HOST[:PORT], pop3s://HOST[:PORT] or xpop://HOST[:PORT]/MAILBOX")
    scheme, user, host, port, mailbox = found.groups("")
    if bool(mailbox) is not (scheme == "xpop"):
        raise SourceError(f"{word}: {'no mailbox' if scheme == 'xpop' else 'a mailbox'} is named behind the host")
    try:
        endpoint: Endpoint = parse_endpoint(f"{host}:{port or POP3_PORTS[scheme]}")
    except ValueError as why:
        raise SourceError(f"{word}: must be {why}") from None
    server = Pop3Server(scheme, endpoint, options.timeout, options.cafile, options.is_verified, options.is_cleartext)
    if scheme == "xpop":
        return Pop3Source(server, None, mailbox)
    name = unquote(user, errors="surrogateescape") or job.user
    if not name:
        raise SourceError(f"{word}: needs a user: --user, or the third word of the list's line")
    return Pop3Source(server, Pop3Login(options.login.replace("%u", name), job.password))
