"""The log lines of one session from proxy and server, joined by the session id that both write."""

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.system import wait_for

SID, LEVEL, NAME = 5, 6, 8    # fields of a log line (spec 5.1), counted from 0
LAST = ("session_end", "mailbox_closed")    # what proxy and server write at the end of a session


def session_lines(proxy: Daemon, servers: list[Daemon], client: Endpoint) -> list[str]:
    """Return what proxy and servers wrote about the session of `client`, shortened for the screen."""
    start = wait_for(lambda: proxy.log_lines(f"client='{client}'"), 10.0, "the proxy's log line")[0]
    sid = start.split(" ")[SID]
    joined = [daemon for daemon in [proxy, *servers] if daemon is proxy or daemon.log_lines(f" {sid} ")]
    for daemon in joined:
        wait_for(lambda: _has_ended(daemon, sid), 10.0, f"the end of session {sid} in {daemon.logfile}")
    lines = [line for daemon in joined for line in daemon.log_lines(f" {sid} ")]
    lines.sort(key=_moment)
    return [f"session {sid}", *(shorten(line) for line in lines)]


def shorten(line: str) -> str:
    """Return a log line without date, host, pid and session id."""
    fields = line.split(" ")
    return " ".join([fields[1][:2] + ":" + fields[1][2:4] + ":" + fields[1][4:], fields[3], *fields[LEVEL:]])


def _moment(line: str) -> tuple[str, str, bool]:
    """Order lines by their second; within one, the proxy's summary comes last."""
    fields = line.split(" ")
    return fields[0], fields[1], fields[NAME] == LAST[0]


def _has_ended(daemon: Daemon, sid: str) -> bool:
    return any(line.split(" ")[NAME] in LAST for line in daemon.log_lines(f" {sid} "))
