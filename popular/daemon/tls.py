"""TLS of listeners: the rows of their owners, and the contexts that are made from them for the children.

Used by the starter (rows, `try_certificates`) and by the master, which makes the contexts before it forks
and keeps those whose files did not change, so that TLS sessions can be resumed after a reload.  The TLS code
is imported only when the first owner has TLS.  Raises ConfigError.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from popular.config.kinds import Choice, Files, String
from popular.config.mistakes import ConfigError, Findings, Mistake
from popular.config.setting import Setting, place
from popular.config.store import Item, WrongValue
from popular.daemon.messages import CERTIFICATE_ENDS, CERTIFICATE_KEPT
from popular.errors import StartError
from popular.log.writer import Log
from popular.net.wire import Wire
from popular.unix.rights import own_rights

if TYPE_CHECKING:
    from popular.net.tls.context import Certificate, KeyPair
    from popular.net.tls.stream import TlsStream

OFF, STARTTLS, IMPLICIT = "off", "starttls", "implicit"
ONLY_WITH_TLS = ("certificate", "key", "tlsmin", "tlsciphers", "clientca", "certificateuser", "cafile", "tlsname",
                 "verify")    # rows
WARN_DAYS = 21            # before a certificate expires, and each day from then on
LOOK_SECONDS = 86400.0    # between two checks of the days that are left

_STARTTLS_DOC = ("TLS (RFC 2595, 8314): implicit, from the first octet on, as on port 995; starttls, when a client "
                 "asks for it with STLS.")

_Stamp = tuple[object, ...]
_WORDS = 4    # first parts of a stamp, which do not depend on the content of files


def tls_rows(*modes: str, doc: str = "") -> tuple[Setting, ...]:
    """Return the rows of an object whose listeners can have TLS in these modes, which `doc` explains if not POP3's."""
    return (
        Setting("tls", Choice(OFF, *modes), OFF,
                doc or (_STARTTLS_DOC if STARTTLS in modes else "TLS, from the first octet on.")),
        Setting("certificate", Files(), None,
                "PEM files of certificates, each with its chain; several separated by commas: the client gets the one "
                "for the name that it asks for, else the first.  The service user reads them at start, reload and "
                "HUP.", root_only=True),
        Setting("key", Files(), None,
                "PEM files with their keys, in the same order, without passphrase; when not set, the keys are in the "
                "files of the certificates.", root_only=True),
        Setting("tlsmin", Choice("1.2", "1.3"), "1.2", "Oldest version of TLS."),
        Setting("tlsciphers", String(512), None,
                "Ciphers of TLS 1.2, in OpenSSL's words; when not set, those of RFC 9325."),
    )


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of one owner, ready for the children."""

    mode: str                                    # starttls or implicit
    secure: Callable[[Wire], "TlsStream"]        # puts a wire under TLS; raises NoTls and Gone
    certificates: "tuple[Certificate, ...]"
    stamp: _Stamp                                # what it was made from
    trouble: str = ""                            # why it still uses what was read before


def load_tls(cls: str, items: Sequence[Item], former: Mapping[str, Tls], log: Log) -> dict[str, Tls]:
    """Return the TLS of each owner, an object of the class `cls`, that has it; raises ConfigError with every mistake.

    An entry of `former` stays if its files are unchanged.  It also stays, with a line in the log, if the same
    files can no longer be used.
    """
    found: dict[str, Tls] = {}
    mistakes: list[Mistake] = []
    for item in items:
        if item.values.text("tls") == OFF:
            continue
        old, stamp = former.get(item.ident), _stamp(item)
        try:
            is_same = old is not None and old.stamp == stamp
            found[item.ident] = replace(old, trouble="") if old and is_same else _make(item, stamp)
        except StartError as why:
            if old is None or old.stamp[:_WORDS] != stamp[:_WORDS]:    # settings have changed, not only files
                mistakes.append(_mistake(cls, item, why))
            else:
                log.note(CERTIFICATE_KEPT, owner=item.ident, why=str(why))
                found[item.ident] = replace(old, trouble=str(why))
    if mistakes:
        raise ConfigError(mistakes)
    return found


def kept(owners: Mapping[str, Tls]) -> list[str]:
    """Return a line for each owner whose files can no longer be used, so that it still uses what was read before."""
    return [f"{owner}: {tls.trouble}; the certificate that was read before stays in use"
            for owner, tls in owners.items() if tls.trouble]


def try_certificates(cls: str, items: Sequence[Item], findings: Findings) -> None:
    """Check the certificates of owners, objects of the class `cls`, with a remark on each that is not valid or ends."""
    for item in items:
        try:
            certificates = () if item.values.text("tls") == OFF else _make(item, ()).certificates
        except WrongValue:
            continue
        except StartError as why:
            findings.mistakes.append(_mistake(cls, item, why))
            continue
        findings.remarks.extend(Mistake(place(cls, item.ident, "certificate"), f"certificate {each.path} {when}")
                                for each in certificates if (when := _when(each)))


def _when(certificate: "Certificate") -> str:
    """Return a remark on the time for which a certificate is valid; empty: none is needed."""
    days = certificate.days_left()
    if certificate.since > time.time():
        return f"is not valid before {time.strftime('%Y-%m-%d %H:%M', time.localtime(certificate.since))}"
    if days < 0:
        return f"has expired, {-days} days ago"
    return f"expires in {days} days" if days < WARN_DAYS else ""


def want_readable(kind: str, *paths: str) -> None:
    """Raise StartError for a file that this process cannot read; the text has `kind`, path and the user's name."""
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except PermissionError as why:
            raise StartError(f"{kind} {path}: user {own_rights().user!r} cannot read it") from why
        except OSError as why:
            raise StartError(f"{kind} {path}: {why.strerror}") from why


def note_ending(owners: Mapping[str, Tls], log: Log) -> None:
    """Log each certificate that expires within `WARN_DAYS` days."""
    for owner, tls in owners.items():
        for certificate in tls.certificates:
            if (days := certificate.days_left()) < WARN_DAYS:
                log.note(CERTIFICATE_ENDS, owner=owner, file=certificate.path, days=days,
                         names=" ".join(certificate.names))


class CertificateWatch:
    """An attendant of the master: logs certificates that expire soon, once a day."""

    def __init__(self, owners: Callable[[], Mapping[str, Tls]], log: Log) -> None:
        """Watch the certificates of `owners()`, which have just been logged."""
        self._owners = owners
        self._log = log
        self._due = time.monotonic() + LOOK_SECONDS

    def patience(self, now: float) -> float | None:
        """Return the seconds until the next check; None without certificates."""
        return max(0.0, self._due - now) if self._owners() else None

    def attend(self) -> None:
        """Check when it is time."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + LOOK_SECONDS
            note_ending(self._owners(), self._log)

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _mistake(cls: str, item: Item, why: StartError) -> Mistake:
    return Mistake(place(cls, item.ident), str(why))


def _pairs(item: Item) -> "list[KeyPair]":
    """Return the files; raises StartError if their numbers differ, or there are none."""
    from popular.net.tls.context import KeyPair    # here, because it needs ssl, which only daemons with TLS shall load

    certificates, keys = item.values.files("certificate"), item.values.files("key")
    if not certificates:
        raise StartError(f"tls = {item.values.text('tls')} needs 'certificate'")
    if keys and len(keys) != len(certificates):
        raise StartError(f"'certificate' names {len(certificates)} files, 'key' {len(keys)}: each needs its own")
    return [KeyPair(*pair) for pair in zip(certificates, keys or certificates)]


def _stamp(item: Item) -> _Stamp:
    """Return a value that changes when settings or files of `item` change; files may be missing."""
    values = item.values
    clientca = str(values.get("clientca") or "")
    paths = (*values.files("certificate"), *values.files("key"), *([clientca] if clientca else []))
    return (values.text("tls"), values.text("tlsmin"), values.optional_text("tlsciphers"), paths,
            *(_identity(path) for path in paths))


def _identity(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _make(item: Item, stamp: _Stamp) -> Tls:
    from popular.net.tls import context as tlscontext    # here, as above
    from popular.net.tls import stream as tlsstream

    values = item.values
    want_readable("certificate", *values.files("certificate"))
    want_readable("key", *values.files("key"))
    certificates = tuple(tlscontext.read_certificate(pair) for pair in _pairs(item))
    context = tlscontext.server_context(certificates, values.text("tlsmin"),
                                        values.optional_text("tlsciphers") or tlscontext.CIPHERS,
                                        (values.optional_text("clientca") or "") if "clientca" in values else "",
                                        demands="certificateuser" not in values)    # or clients may have none

    def secure(wire: Wire) -> "TlsStream":
        return tlsstream.secure(wire, context, server_side=True)

    return Tls(values.text("tls"), secure, certificates, stamp)
