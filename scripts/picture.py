"""Draw docs/pstatus-top.svg: `pstatus --top` before a real pproxy and pserv with sessions of every kind.

    python -m scripts.picture

For developers, by hand, when the view has changed; `make venv` brings what it needs.
"""

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from html import escape
from pathlib import Path

import pyte

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon
from tests.harness.pacedcrowd import end_crowd, start_crowd
from tests.harness.popclient import PopClient
from tests.harness.ptyscreen import Terminal

TARGET = ROOT / "docs/pstatus-top.svg"
ROWS, COLUMNS = 24, 118
SECONDS = 5.0                    # of traffic before the picture is taken
RATE = 40                        # short sessions a second, beside those that stay

WIDTH, HEIGHT, SIZE = 8.4, 18, 14    # of a character, in pixels
COLOURS = {"default": "#d4d4d4", "black": "#1e1e1e", "red": "#f14c4c", "green": "#23d18b", "brown": "#e5e510",
           "blue": "#3b8eea", "magenta": "#d670d6", "cyan": "#29b8db", "white": "#e5e5e5"}
PAPER = "#1e1e1e"

MESSAGE = b"Subject: Dinner\r\n\r\n" + b"At eight, as always?\r\n" * 200
USERS = ("ann", "bert", "carol", "dora", "emil", "frieda", "gustav", "hanna", "igor", "joe", "karin", "lena", "max")


def main() -> int:
    """Make the picture; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="popular-") as folder, ExitStack() as stack:
        proxy = start_system(Path(folder), stack)
        crowd = start_crowd(proxy.endpoint("main"), RATE, "nobody", "x")
        for client in sessions(proxy):
            stack.enter_context(client)
        state = str(proxy.rundir / "pproxy.state")
        command = [sys.executable, str(ROOT / "bin/pstatus"), "--top", "-l", "1s", "-f", state]
        with Terminal(command, rows=ROWS, columns=COLUMNS) as terminal:
            terminal.wait_text("state", "client")
            threading.Event().wait(SECONDS)
            terminal.wait_text("sessions")
            TARGET.write_text(svg(terminal.screen))
            terminal.type("q")
            terminal.wait()
        end_crowd(crowd)
    return 0


def start_system(folder: Path, stack: ExitStack) -> Daemon:
    """Start a proxy and two stores with mail for the first users; returns the proxy."""
    stores = {}
    (folder / "users").write_bytes(b"".join(
        f"{user}:{{PLAIN}}x:store{number % 2 + 1}:cxpop:{user}\n".encode()
        for number, user in enumerate((*USERS, "nobody"))))
    for name in ("store1", "store2"):
        spool = folder / f"spool-{name}"
        for user in USERS:
            for part in ("tmp", "new", "cur"):
                (spool / user / part).mkdir(parents=True)
            (spool / user / "new" / f"945113196.14341_{len(MESSAGE)}").write_bytes(MESSAGE)
        for part in ("tmp", "new", "cur"):
            (spool / "nobody" / part).mkdir(parents=True)
        server = stack.enter_context(Daemon.start("pserv", {
            "pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}}, folder, name=name))
        check = stack.enter_context(Daemon.start("pcheckd", {
            "pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0}}, folder, name=f"check-{name}"))
        stores[name] = {"protocol": "cxpop", "address": server.endpoint(), "checkport": check.endpoint().port}
    return stack.enter_context(Daemon.start("pproxy", {
        "pproxy": {"authdelay": 0, "maxsession": 200, "maxuse": 1000},
        "vserv": {"main": {"address": "127.0.0.1:0"}, "customers": {"address": "127.0.0.1:0"}},
        "backend": stores, "pdm": {"users": {"module": "passwd", "args": folder / "users"}}}, folder))


def sessions(proxy: Daemon) -> Iterator[PopClient]:
    """Yield sessions that stay: most fetch mail, some are logging in."""
    for number, user in enumerate(USERS):
        endpoint: Endpoint = proxy.endpoint("customers" if number % 3 else "main")
        client = PopClient(endpoint, source=f"127.0.{number % 4 + 1}.{17 * number + 9}")
        yield client
        if number in (4, 9):
            client.greeting()
            continue
        client.login(user, "x")
        client.message(1)


def svg(screen: pyte.Screen) -> str:
    """Return the screen of a terminal as a picture."""
    width, height = COLUMNS * WIDTH + 2 * HEIGHT, ROWS * HEIGHT + 2 * HEIGHT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
             f'viewBox="0 0 {width:.0f} {height}" font-family="monospace" font-size="{SIZE}">',
             f'<rect width="100%" height="100%" rx="6" fill="{PAPER}"/>']
    for row in range(ROWS):
        for column, text, cell in runs(screen, row):
            ink, paper = COLOURS.get(cell.fg, f"#{cell.fg}"), COLOURS.get(cell.bg, f"#{cell.bg}")
            if cell.bg == "default":
                paper = PAPER
            if cell.reverse:
                ink, paper = paper, ink
            x, y = HEIGHT + column * WIDTH, HEIGHT + row * HEIGHT
            if paper != PAPER:
                parts.append(f'<rect x="{x:.1f}" y="{y}" width="{len(text) * WIDTH:.1f}" height="{HEIGHT}" '
                             f'fill="{paper}"/>')
            if text.strip():
                weight = ' font-weight="bold"' if cell.bold else ""
                parts.append(f'<text x="{x:.1f}" y="{y + 13}" textLength="{len(text) * WIDTH:.1f}" '
                             f'xml:space="preserve" fill="{ink}"{weight}>{escape(text)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def runs(screen: pyte.Screen, row: int) -> "Iterator[tuple[int, str, pyte.screens.Char]]":
    """Yield the pieces of a row that look alike: first column, text, and a cell with their look."""
    start, text = 0, ""
    look = screen.buffer[row][0]
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        if cell._replace(data="") != look._replace(data=""):
            yield start, text, look
            start, text, look = column, "", cell
        text += cell.data
    yield start, text, look


if __name__ == "__main__":
    sys.exit(main())
