"""What pclean does about SMTP after POP: records that are over are removed from the database.

Whether a client may send mail does not depend on it: who reads the database looks at the time, too.  Raises nothing.
"""

from contextlib import closing

from popular.config.store import Values
from popular.log.writer import Log
from popular.smtpafterpop.clients import Clients, ClientsError
from popular.tools.pclean import messages as M
from popular.tools.pclean.screen import Screen, say

_PATIENCE = 5.0    # seconds to wait for children of pproxy that write


def expire_clients(variables: Values, log: Log, screen: Screen, now: int) -> bool:
    """Remove the records that are over at `now`, in a dry run count them; False when that cannot be done."""
    is_dry = variables.flag("dryrun")
    with closing(Clients(variables.text("smtpafterpopfile"), _PATIENCE)) as clients:
        try:
            if not clients.is_there():
                return True
            number = clients.count_expired(now) if is_dry else clients.expire(now)
        except ClientsError as why:
            say(f"{clients.path}: {why}")
            log.note(M.CLIENTS_NOT_EXPIRED, path=clients.path, why=str(why))
            return False
    if number and (is_dry or variables.flag("verbose")):
        screen.line(f"{clients.path}: {'would remove' if is_dry else 'removed'} {number} records of clients")
    if number:
        log.note(M.CLIENTS_EXPIRED, path=clients.path, records=number)    # a dry run's log leads nowhere
    return True
