"""Database module `cdb`: users in a constant database (D. J. Bernstein's cdb).

    cdb FILE

The key is the user's name, the data `HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]` as
`popular.pdm.records` describes, without a line end.  `pmakecdb FILE < users` makes one from the text
that the module passwd reads.  The file is opened for each query, so a database renamed into place is
seen at the next login.  A damaged file is FAILED.
"""

import os

from popular.pdm import records
from popular.pdm.api import PdmError
from popular.pdm.bases import FileModule
from popular.pdm.databases import cdbfile


class Module(FileModule):
    """The users of one constant database."""

    API = (1, 1)
    usage = "cdb FILE"

    def raw_record(self, key: bytes) -> bytes | None:
        """Return the value of a key, None without one; raises OSError and PdmError."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cdbfile.find(fd, key, records.MAX_RECORD)
        except ValueError as why:
            raise PdmError(f"{self.path}: {why}") from None
        finally:
            os.close(fd)
