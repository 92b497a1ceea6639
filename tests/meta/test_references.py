"""What programs, tests and documents refer to is there: sections, RFCs, files and modules.

"spec 5.3" is a heading of docs/reference/popular-1.5.5.md, "design 4" one of docs/design.md; RFCs and other
standards are listed in standards.txt with their sections.  "section 6" alone is one of the standard that was named
last in the file, and in the two documents one of their own.
"""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference/popular-1.5.5.md"
DESIGN = ROOT / "docs/design.md"

PLACES = ("popular", "pdm_modules", "bin", "demo", "scripts", "etc", "man/src", "tests", "docs", "debian", "README.md",
          "NEWS", "Makefile", "setup.cfg")
FOREIGN = ("tests/fuzz/corpus",)    # not written by us
THIS = ("tests/meta/standards.txt", "tests/meta/test_references.py")    # holds mistakes on purpose
PACKAGES = sorted(path.name for path in (ROOT / "popular").iterdir() if (path / "__init__.py").exists())
STAND_INS = {"PROGRAM": "pproxy", "FAMILY": "debian", "RELEASE": "bookworm"}    # in paths of the documents

_ENDINGS = "conf|ctrl|log|pid|py|rc|service|socket|state"    # of files, not names of modules

_NUMBER = r"[A-Z]?\d{1,2}(?:\.\d{1,2})*(?!\w)"
_NUMBERS = rf"({_NUMBER}(?:(?:,| and| or| to|, and|, or) +{_NUMBER})*)"
_LINE_END = re.compile(r"[\"']?\n[ \t]*(?:#:? ?|\.\\\" ?|[\"'])?[ \t]*")
_CITATION = re.compile(rf"(?<![\w.])(spec|design)(?: +|-)(?:sections? +)?{_NUMBERS}", re.IGNORECASE)
_TEST_NAME = re.compile(r"test_(spec|design)_(\d+(?:_\d+)?)")
_STANDARD = re.compile(
    r"(?<![\w/])(proxy-protocol\.txt|RFCs?(?: +|-)?\d{3,5}(?:(?:,| and| or|, and) +\d{3,5}(?!\w))*)"
    rf"(?:,? +(section|table)s? +{_NUMBERS}|,? +(\d{{1,2}}(?:\.\d{{1,2}})+)(?!\w))?", re.IGNORECASE)
_SECTION = re.compile(rf"(?<![\w.])sections? +{_NUMBERS}", re.IGNORECASE)
_HEADING = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", re.MULTILINE)


def files() -> list[Path]:
    """Return every file of ours that people read, but for those made from others."""
    paths = [path for place in PLACES for path in [ROOT / place, *sorted((ROOT / place).rglob("*"))] if path.is_file()]
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    return [path for path, name in names.items()
            if not name.startswith(FOREIGN) and name not in THIS and path.suffix not in (".pyc", ".svg")]


def text_of(path: Path) -> str:
    """Return what stands in a file; of what is no text, nothing."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def headings(text: str) -> list[str]:
    """Return the numbers of a document's headings, in their order."""
    return _HEADING.findall(text)


def standards(text: str) -> dict[str, set[str]]:
    """Return the known parts ("section 4.1", "table 2") of each known standard, by its name."""
    known: dict[str, set[str]] = {}
    last = ""
    for line in text.splitlines():
        if part := re.match(r" {4}((?:section|table) [\d.]+) \w", line):
            known[last].add(part[1])
        elif title := re.match(r"(RFC \d+|[\w.-]+\.txt) \w", line):
            last = title[1]
            known[last] = set()
        elif line and not line.startswith("#"):
            raise ValueError(line)
    return known


KNOWN = {"spec": frozenset(headings(REFERENCE.read_text())), "design": frozenset(headings(DESIGN.read_text()))}
STANDARDS = standards(Path(__file__).with_name("standards.txt").read_text())


def numbers(words: str) -> list[str]:
    """Return the single numbers of a list of them."""
    return re.findall(_NUMBER, words)


def unresolved(text: str, own: frozenset[str] = frozenset()) -> list[tuple[int, str]]:
    """Return line and words of each reference in `text` that leads nowhere; `own` are the text's own sections."""
    flat = _LINE_END.sub(lambda match: " " * len(match[0]), text)    # of the same length, for the numbers of lines
    return [(text.count("\n", 0, start) + 1, words)
            for start, words in sorted([*_citations(flat), *_standards_cited(flat, own)])]


def _citations(flat: str) -> Iterator[tuple[int, str]]:
    for match in _CITATION.finditer(flat):
        name = match[1].lower()
        yield from ((match.start(), f"{name} {each}") for each in numbers(match[2]) if each not in KNOWN[name])
    for match in _TEST_NAME.finditer(flat):
        if match[2].replace("_", ".") not in KNOWN[match[1]]:
            yield match.start(), match[0]


def _standards_cited(flat: str, own: frozenset[str]) -> Iterator[tuple[int, str]]:
    last, end = "?", 0    # the standard that was named last, and where the words about it end
    for match in sorted([*_SECTION.finditer(flat), *_STANDARD.finditer(flat)], key=re.Match.start):
        start = match.start()
        if match.re is _STANDARD:
            names = [f"RFC {number}" for number in re.findall(r"\d+", match[1])] or [match[1]]
            yield from ((start, name) for name in names if name not in STANDARDS)
            last, end, kind, words = names[-1], match.end(), match[2] or "section", match[3] or match[4]
        elif start < end or own.issuperset(numbers(match[1])):    # looked at already, or the document's own
            continue
        else:
            kind, words = "section", match[1]
        for each in numbers(words or ""):
            part = f"{kind.lower()} {each}"
            if part not in STANDARDS.get(last, {part} if last != "?" else {}):    # an unknown one is reported once
                yield start, f"{last} {part}"


def test_references_lead_somewhere():
    own = {REFERENCE: KNOWN["spec"], DESIGN: KNOWN["design"]}
    texts = {path: text_of(path) for path in files()}
    assert sum(len(_CITATION.findall(text)) for text in texts.values()) > 100
    lost = [f"{path.relative_to(ROOT)}:{line}: {words}" for path, text in texts.items()
            for line, words in unresolved(text, own.get(path, frozenset()))]
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("path", [REFERENCE, DESIGN], ids=["reference", "design"])
def test_sections_are_numbered_in_order(path):
    found = headings(path.read_text())
    assert found == sorted(set(found), key=lambda number: [int(part) for part in number.split(".")])
    assert {number.partition(".")[0] for number in found} <= set(found)


@pytest.mark.parametrize("text, wanted", [
    ("(spec 5.3)", []),
    ("(spec 5.9)", ["spec 5.9"]),
    ("Spec 3.1 and 3.9 name them; spec 4, 11", ["spec 3.9"]),
    ("(spec 1.2, 1.3, 16): variables", ["spec 16"]),
    ("(spec 2.4, B12)", ["spec B12"]),
    ("(spec 5.2; numbers 02a0 to 02af); spec 9.1: no lock; spec 5.1.", []),
    ("# as in spec\n    # 5.8", ["spec 5.8"]),
    ('id="spec-2.4-dots", id="spec-2.8-dots"', ["spec 2.8"]),
    ("def test_spec_1_5_nul(): def test_spec_1_9_nul():", ["test_spec_1_9"]),
    ("spec.py, the spec of a daemon", []),
    ("design 4; design B5, B6; the design", ["design B5", "design B6"]),
    ("RFC 1939 section 5, RFC 2449 section 8.1", []),
    ("RFC 1939 section 5.1", ["RFC 1939 section 5.1"]),
    ("RFC 2449 6.9 and RFC 2449 6.10", ["RFC 2449 section 6.10"]),
    ("(RFC 1939, 2449, 9999) and RFC 3206", ["RFC 9999"]),
    ("RFC 1460 section 1", ["RFC 1460 section 1"]),
    ("rfc3206-auth, message/rfc822, RFC2822", ["RFC 2822"]),
    ("(RFC\n    3164 table 2), RFC 3164 table 3", ["RFC 3164 table 3"]),
    ("TRANSACTION (RFC 1939 section 5) and UPDATE (section 6), section 16", ["RFC 1939 section 16"]),
    ("HAProxy's proxy-protocol.txt, sections 2.1 and 2.9", ["proxy-protocol.txt section 2.9"]),
    ("see section 3", ["? section 3"]),
])
def test_the_rule_itself(text, wanted):
    assert [words for _, words in unresolved(text)] == wanted


def test_lines_and_own_sections():
    assert list(unresolved("one\n# two (spec 4 and\n#   spec 99)\nsection 7, section 8", frozenset("7"))) == [
        (3, "spec 99"), (4, "? section 8")]


def missing_files(text: str, folder: Path) -> list[str]:
    """Return the files that a document in `folder` names in `…` or links to, and that are not there."""
    for word, stand_in in STAND_INS.items():
        text = text.replace(f"/{word}", f"/{stand_in}").replace(f"`{word}/", f"`{stand_in}/")
    found = [name for name in re.findall(r"`([\w.-]+/[\w./-]*)`", text)
             if any((base / name.partition("/")[0]).is_dir() for base in (ROOT, ROOT / "popular", folder))
             and not name.startswith(("./", "build/", "dist/"))
             and not any((base / name).exists() for base in (ROOT, ROOT / "popular", folder))]
    links = [link for link in re.findall(r"\]\(([^)#:\s]+)\)", text) if not (folder / link).exists()]
    return found + links


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
                         ids=lambda path: path.name)
def test_files_that_documents_name_are_there(path):
    assert missing_files(path.read_text(), path.parent) == []


def test_missing_files_are_found():
    text = "`proc/child.py` `proc/kid.py` `PROGRAM/settings.py` `a/b.py` [x](design.md) [y](gone.md) [z](https://a.b)"
    assert missing_files(text, ROOT / "docs") == ["proc/kid.py", "gone.md"]


def words_of(path: Path) -> str:
    """Return the docstrings and comments of a module of Python, one a line."""
    with path.open("rb") as file:
        comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    nodes = [node for node in ast.walk(ast.parse(path.read_bytes()))
             if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    return "\n".join([*comments, *filter(None, map(ast.get_docstring, nodes))])


def lost_modules(words: str) -> list[str]:
    """Return the modules that are named as package.module and are not there."""
    named = re.findall(rf"(?<![\w./%-])((?:popular\.)?(?:{'|'.join(PACKAGES)})\.(?!(?:{_ENDINGS})\b)[a-z]\w*)", words)
    paths = {name: ROOT / "popular" / name.removeprefix("popular.").replace(".", "/") for name in named}
    return [name for name, path in paths.items() if not (path.is_dir() or path.with_suffix(".py").exists())]


def test_modules_that_are_named_are_there():
    places = [ROOT / "popular", ROOT / "pdm_modules", ROOT / "docs"]
    words = {path: words_of(path) for place in places for path in sorted(place.rglob("*.py"))}
    words |= {path: path.read_text() for place in places for path in sorted(place.rglob("*.md"))}
    lost = [f"{path.relative_to(ROOT)}: {name}" for path, text in words.items() for name in lost_modules(text)]
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("words, lost", [
    ("the contract (proc.child), popular.proc.child, see `daemon.start.slim`.", []),
    ("the contract (proc.kid), popular.proc.kid.", ["proc.kid", "popular.proc.kid"]),
    ("daemon.master.loop.Master and daemon.matter.Master", ["daemon.matter"]),
    ("pserv.state, pcheckd.conf and pproxy.log are files", []),
])
def test_lost_modules_are_found(words, lost):
    assert lost_modules(words) == lost
