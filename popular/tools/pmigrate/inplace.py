"""`pmigrate inplace`: a Maildir becomes a mailbox of POPular where it is.

Part of pmigrate.
"""

from popular.store.mailbox import Mailbox
from popular.tools.pmigrate.job import Result
from popular.tools.pmigrate.source import Source, SourceError


def inplace(source: Source, mailbox: Mailbox, *, is_dry: bool) -> Result:
    """Give the mailbox, which is the source's own folder, the UIDLs of the source; raises SourceError, StoreError.

    With `is_dry`, nothing is changed.
    """
    raise SourceError(f"{source.title}: cannot be moved in place to {mailbox.name} yet{'' if is_dry else '.'}")
