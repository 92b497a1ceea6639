"""Database module `cdb`: users in a constant database (D. J. Bernstein's cdb).

    cdb FILE

The key is the user's name, the data `HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]` as
`popular.pdm.records` describes, without a line end.  `pmakecdb FILE < users` makes one from the text
that the module passwd reads.  The file is opened for each query, so a database renamed into place is
seen at the next login.  A damaged file is FAILED.
"""

import os

from popular.pdm import cdbfile, records
from popular.pdm.api import UNKNOWN, Answer, Found, PdmError, PdmModule, Request


class Module(PdmModule):
    """The users of one constant database."""

    API = (1, 1)

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the file's name; raises ValueError."""
        super().__init__(ident, args)
        self.path = records.file_argument(args, "cdb FILE", "the database")

    def probe(self) -> None:
        """Look up a user that does not exist."""
        records.probe(self.path, self.check)

    def check(self, request: Request) -> Answer:
        """Look the user up and compare the password."""
        record = self._look_up(request.user)
        return UNKNOWN if record is None else records.answer_from(request, record)

    def find(self, user: str, namespace: str) -> Found | None:
        """Look the user up."""
        record = self._look_up(user)
        return None if record is None else records.found_in(record)

    def _look_up(self, user: str) -> bytes | None:
        """Return a user's record, None when there is none; raises OSError and PdmError."""
        key = records.key_of(user)
        if key is None:
            return None
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cdbfile.find(fd, key, records.MAX_RECORD)
        except ValueError as why:
            raise PdmError(f"{self.path}: {why}") from None
        finally:
            os.close(fd)
