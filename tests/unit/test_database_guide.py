"""docs/choosing-a-database.md: its tables name every database module, and its links lead to the pages on them."""

import re

from tests.harness.daemon import ROOT

GUIDE = ROOT / "docs/choosing-a-database.md"


def test_every_module_is_in_the_tables_of_the_guide():
    named = set(re.findall(r"^\| \[?`([a-z]+)`", GUIDE.read_text(), re.MULTILINE))
    modules = {path.stem.removeprefix("pdm_") for path in (ROOT / "pdm_modules").glob("pdm_*.py")}
    assert named == modules - {"master", "poauth", "template"}    # which hold no users


def test_every_page_is_linked_and_every_link_leads_to_one():
    linked = set(re.findall(r"\]\(databases/([a-z]+\.md)\)", GUIDE.read_text()))
    assert linked == {path.name for path in (ROOT / "docs/databases").glob("*.md")}
