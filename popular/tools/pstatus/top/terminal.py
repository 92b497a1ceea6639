"""Whether this terminal can be drawn on, and in how many colours.

Part of the tool pstatus --top; uses the terminal's description (terminfo) and respects NO_COLOR.
"""

import curses
import os
import sys

from popular.errors import PopularError

_COLORS = 8    # fewer count as none


class NoScreen(PopularError):
    """There is no terminal that a full screen can be drawn on."""


def check_terminal() -> bool:
    """Tell whether colours are wanted and available; raises NoScreen."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoScreen("--top wants a terminal to read keys from and to draw on")
    kind = os.environ.get("TERM", "") or "dumb"
    try:
        curses.setupterm(kind, sys.stdout.fileno())
    except curses.error:    # newer than this host's descriptions: such terminals understand what xterm does
        can_draw, colors = kind != "dumb", 256
    else:
        can_draw, colors = bool(curses.tigetstr("cup")), curses.tigetnum("colors")
    if not can_draw:
        raise NoScreen(f"--top cannot draw on a terminal of the kind TERM={kind}; -l shows lines")
    return colors >= _COLORS and not os.environ.get("NO_COLOR")
