"""The source that a word names.

Part of pmigrate.  Raises SourceError.
"""

import os
import re
from urllib.parse import unquote

from popular.addresses import Endpoint, parse_endpoint
from popular.errors import StoreError
from popular.store.mailbox import Mailbox
from popular.tools.pmigrate.compare import KeptMailbox
from popular.tools.pmigrate.job import MoveJob, MoveOptions
from popular.tools.pmigrate.sources.doveadm import Doveadm
from popular.tools.pmigrate.sources.maildir import MaildirSource
from popular.tools.pmigrate.sources.mbox import Mbox
from popular.tools.pmigrate.sources.pop3 import POP3_PORTS, Pop3Login, Pop3Source, Pop3Server
from popular.tools.pmigrate.sources.source import MailSource, SourceError
from popular.unix.rights import own_rights, rights_of_owner

_URL = re.compile(r"(pop3s?|xpop)://(?:([^@/]*)@)?(\[[^]/]*\]|[^:/\[\]]*)(?::([0-9]{1,5}))?(?:/(.*))?")


def open_source(job: MoveJob, options: MoveOptions) -> MailSource:
    """Return the source of a job, connected or locked; `close` must follow."""
    kind, colon, rest = job.source.partition(":")
    if rest.startswith("//"):
        return open_server(job, options)
    if colon and rest:
        match kind:
            case "maildir" | "dovecot" | "courier" | "qmail":
                return MaildirSource(rest, kind, options.uidlformat, options.dovecot)
            case "mbox":
                return Mbox(rest, options.wait, options.quoting, options.uidls)
            case "doveadm":
                return Doveadm(rest, options.dovecot)
            case "popular":
                return _open_kept(rest, options)
    raise SourceError(f"{job.source}: must be maildir:PATH, dovecot:PATH, courier:PATH, qmail:PATH, mbox:PATH, "
                      "doveadm:USER, popular:MAILBOX, pop3://HOST, pop3s://HOST or xpop://HOST/MAILBOX")


def _open_kept(name: str, options: MoveOptions) -> MailSource:
    """Return a mailbox of this host's spool."""
    if options.to is None:
        raise SourceError(f"popular:{name}: needs --to, the plmtpd of another host")
    try:
        owner = rights_of_owner(os.stat(options.mailboxdir)) if os.geteuid() == 0 else own_rights()
        return KeptMailbox(Mailbox(options.mailboxdir, name), owner)
    except OSError as why:
        raise SourceError(f"{why.filename}: {why.strerror}") from why
    except StoreError as why:
        raise SourceError(str(why)) from why


def open_server(job: MoveJob, options: MoveOptions) -> Pop3Source:
    """Return a mailbox on a POP3 server, connected; `close` must follow."""
    word = job.source
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
