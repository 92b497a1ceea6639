"""The time between two logins to a mailbox: LOGIN-DELAY (RFC 2449 section 6.5).

Made in the master where a virtual server has `logindelay`, used in its children.  Raises nothing.
"""

import math
from dataclasses import dataclass, field

from popular.pproxy.limits.levels import Levels


@dataclass(frozen=True, slots=True)
class LoginDelay:
    """What one virtual server demands; the logins are counted in memory that all share."""

    seconds: float
    levels: Levels = field(repr=False)

    @property
    def capability(self) -> str:
        """What CAPA tells."""
        return f"LOGIN-DELAY {math.ceil(self.seconds)}"

    def take(self, mailbox: int) -> bool:
        """Note a login to the mailbox with this key, and tell whether it is not too soon; if it is, it is not noted."""
        return self.levels.take(mailbox, self.seconds, 1.0)

    def give_back(self, mailbox: int) -> None:
        """Forget a login that was noted, since it failed for another reason."""
        self.levels.forget(mailbox)
