"""Headings and code of the README, for the tests that try out what stands there."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One block of code."""

    headings: tuple[str, ...]    # it stands below these, from the largest on, without the title of the page
    language: str                # what stands behind the opening fence; "indented" for a block without fences
    text: str


def code_blocks(page: str) -> Iterator[Code]:
    """Yield each block of code between fences or indented by four."""
    headings: tuple[str, ...] = ()
    lines = page.splitlines()
    while lines:
        line = lines.pop(0)
        if line.startswith("#"):
            marks, _, text = line.partition(" ")
            headings = (*headings[:len(marks) - 2], text) if len(marks) > 1 else ()
        elif line.startswith("```"):
            end = lines.index("```")
            yield Code(headings, line[3:], "\n".join(lines[:end]))
            del lines[:end + 1]
        elif line.startswith("    "):
            block = [line[4:]]
            while lines and (lines[0].startswith("    ") or not lines[0]):
                block.append(lines.pop(0)[4:])
            yield Code(headings, "indented", "\n".join(block).rstrip())
