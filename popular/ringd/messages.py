"""The log messages of ringd: numbers 02e0 to 02ef."""

from popular.log.message import ADM, ERR, INF, Message

SHUTDOWN_RINGD = Message(
    0x02e0, INF, "shutdown_ringd", "command",
    "ringd ends because of this command.  Programs keep their open ports.  Nothing to do.")
PORT_GIVEN = Message(
    0x02e1, INF, "port_given", "address references client",
    "The process `client` got a port.  With references=1 the port was opened for it; with more it is shared.  "
    "Nothing to do.")
PORT_RETURNED = Message(
    0x02e2, INF, "port_returned", "address references client",
    "The process `client` returned a port, or ended.  With references=0 the port is closed.  "
    "Nothing to do.")
PORT_REFUSED = Message(
    0x02e3, ADM, "port_refused", "address client why",
    "A process asked for a port that it did not get.  Check the reason and the setting `ports`.")
CLIENT_REFUSED = Message(
    0x02e4, ADM, "client_refused", "client uid why",
    "A process was refused; this is logged at most once a minute.  If it runs as another user than ringd: find out "
    "which process it is, and whether pproxy runs as the `user` of ringd.")
CLIENT_DROPPED = Message(
    0x02e5, ERR, "client_dropped", "client why",
    "ringd ended the connection of a process for this reason, and closed the ports that no other process has.  "
    "If room was needed: nothing to do.  Otherwise it is not a program of POPular: find out which process it is.")
