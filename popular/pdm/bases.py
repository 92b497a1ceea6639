"""Base classes of modules whose databases have a record of each user, as `popular.pdm.records` describes.

A `RecordModule` only says how the record is found: sqlite, redis and, by `popular.pdm.databases.sql`, pgsql and mysql.
A `FileModule` has one file with the raw records of users under their names: passwd, cdb, db and lmdb.

Runs in the process that asks.
"""

from typing import ClassVar

from popular.pdm import records
from popular.pdm.api import CHALLENGES, PROVEN, UNKNOWN, Answer, Found, Outcome, PdmError, PdmModule, Request


class RecordModule(PdmModule):
    """A module that finds the record of a user; the password is compared here."""

    mechanisms = CHALLENGES | {PROVEN}

    def record(self, request: Request) -> records.Record | None:
        """Return the user's record, None if there is no such user.  For `find`, password and address are empty.

        Raises ValueError if the record is damaged, OSError, and PdmError.
        """
        raise NotImplementedError

    def check(self, request: Request) -> Answer:
        """Look the user up and compare the password."""
        try:
            record = self.record(request)
        except ValueError as why:
            return Answer(Outcome.FAILED, why=str(why))
        return UNKNOWN if record is None else records.answer_to(request, record)

    def find(self, user: str, namespace: str) -> Found | None:
        """Look the user up."""
        try:
            request = Request(user, b"", "", "pop3", namespace)
            record = self.record(request)
        except ValueError as why:
            raise PdmError(str(why)) from None
        return None if record is None else records.place_of(record, request)


class FileModule(RecordModule):
    """A module whose only argument is a file with the raw records of users under their names."""

    usage: ClassVar[str]                   # for errors: `NAME FILE`
    what: ClassVar[str] = "the database"   # what the file is, likewise

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the file's name; raises ValueError."""
        super().__init__(ident, args)
        self.path = records.file_argument(args, self.usage, self.what)

    def raw_record(self, key: bytes) -> bytes | None:
        """Return the record under a user's name, None without one; raises OSError and PdmError."""
        raise NotImplementedError

    def record(self, request: Request) -> records.Record | None:
        """Read the record from the file, if a file can have such a name."""
        key = records.key_of(request.user)
        raw = None if key is None else self.raw_record(key)
        return None if raw is None else records.parse_record(raw)

    def probe(self) -> None:
        """Look up a user that does not exist."""
        records.probe(self.path, self.check)
        self.close()
