"""How one value is written in an INI file, so that any text survives the way there and back.

A bare value ends at a `#`.  `'…'` is taken literally.  In `"…"` the four characters `\\xNN` stand for
the character of that code, which is how a quote gets into quotes; nothing else is special.  What is
no single quoted text, such as `"a b" "c d"`, stays as it is, for whoever splits it like a shell.
Starter and tools.  Raises nothing.
"""

import re

_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})", re.ASCII)


def quote(text: str) -> str:
    """Return `text` as an INI file must spell it: bare where that is safe."""
    if text and text == text.strip() and "#" not in text and text[0] not in "'\"":
        return text
    escaped = text.replace("\\x", "\\x5cx").replace('"', "\\x22")
    return f'"{escaped}"'


def unquote(value: str) -> str:
    """Return the text that `value`, a value of an INI file without its comment, stands for."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        inside = value[1:-1]
        if value[0] not in inside:
            return inside if value[0] == "'" else _ESCAPE.sub(lambda code: chr(int(code[1], 16)), inside)
    return value
