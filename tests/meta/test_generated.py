"""Generated files are what the tables say, man pages are clean, and every row of every program makes sense."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from popular.config.cmdline import common_options
from popular.config.ini.file import read_ini
from popular.config.ini.text import render_ini
from popular.config.setting import Schema, Setting
from popular.config.store import default_config, dump, load
from scripts import generate
from tests.harness.needs import need_program

SCHEMAS = {program: generate.schema_of(program) for program in generate.CONFIGURED}
BY_PROGRAM = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())


def tables(schema: Schema) -> Iterator[tuple[str, tuple[Setting, ...]]]:
    """Yield the name of each section of an INI file with its rows."""
    yield schema.program, schema.settings
    for cls in schema.classes:
        yield cls.name, cls.rows


ROWS = [pytest.param(row, id=f"{program}-{section}-{row.name}")
        for program, schema in SCHEMAS.items() for section, rows in tables(schema) for row in rows]


def test_generated_files_are_fresh(tmp_path):
    texts = generate.man_pages() | generate.samples()
    generate.write(tmp_path, texts)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    stale = [str(path) for path in made
             if not (generate.ROOT / path).is_file()
             or (generate.ROOT / path).read_bytes() != (tmp_path / path).read_bytes()]
    assert stale == [], "run: make man sample"
    committed = {path.relative_to(generate.ROOT) for folder in ("man", "etc")
                 for path in (generate.ROOT / folder).glob("*.*") if path.is_file()}
    assert committed <= made, "a page without its source"


def test_stale_files_are_found(tmp_path):
    texts = {"man/a.8": "new\n", "etc/b.conf": "new\n"}
    generate.write(tmp_path, texts)
    assert generate.stale_files(tmp_path, texts) == []
    (tmp_path / "man/a.8").write_text("old\n")
    (tmp_path / "etc/b.conf").unlink()
    assert generate.stale_files(tmp_path, texts) == ["man/a.8", "etc/b.conf"]


def test_arguments_of_a_module_come_from_its_table(tmp_path):
    path = tmp_path / "pdm_own.py"
    path.write_text("from popular.pdm.options import Int, Options, Setting\n"
                    "OPTIONS = Options(Setting('port', Int(1, 9), 3, 'Where.'))\n")
    assert generate.man_arguments(path) == '.RS\n.TP\n.BR port " (Int)"\nWhere.\n1 to 9.\nDefault: 3.\n.RE\n'
    path.write_text("")
    assert generate.arguments_of(path) == ()


@pytest.mark.parametrize("page", sorted(generate.man_pages()))
@pytest.mark.parametrize("formatter", ["mandoc -Tlint", "groff -man -t -Tutf8 -ww -z"])
def test_man_pages_are_clean(page, formatter):
    program, *options = formatter.split()
    found = subprocess.run([need_program(program), *options, str(generate.ROOT / page)], capture_output=True, text=True,
                           timeout=30)
    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


@pytest.mark.parametrize(("page", "text"), sorted(generate.man_pages().items()), ids=sorted(generate.man_pages()))
def test_no_mark_of_a_template_is_left(page, text):
    assert re.findall(r"@\w[\w.:]*@", text) == []
    outside = re.sub(r"^\.nf\n.*?^\.fi\n", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "\n\n" not in outside, "write .PP"


def test_man_pages_refer_to_pages_of_ours():
    texts = generate.man_pages()
    ours = {path.removeprefix("man/") for path in texts}
    for page, text in texts.items():
        see_also = text.partition(".SH SEE ALSO\n")[2].replace("\\-", "-")
        named = {f"{name}.{section}" for name, section in re.findall(r"^\.BR (\S+) \((\d)\)", see_also, re.MULTILINE)}
        assert named and named <= ours, page


@pytest.mark.parametrize("row", ROWS)
def test_defaults_are_in_their_bounds(row, monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: True)    # a default directory need not exist here
    if row.default is None:
        return
    text = row.show(row.default)
    value = row.parse(text)
    assert value == row.default
    assert type(value) is type(row.default), "a Time is a float, an Int is an int"


@pytest.mark.parametrize("row", ROWS)
def test_rows_are_well_formed(row):
    assert re.fullmatch("[a-z][a-z0-9]*", row.name)
    assert row.doc.endswith(".") and "\n" not in row.doc and row.doc.isascii()
    assert not (row.required and row.default is not None)
    assert all(re.fullmatch("-[A-Za-z]|--[a-z][a-z-]*", option) for option in row.option)


@BY_PROGRAM
def test_names_and_options_are_unique(schema):
    for _, rows in tables(schema):
        names = [row.name for row in rows]
        assert len(set(names)) == len(names)
    options = [name for row in schema.settings for name in row.option]
    options += [name for option in common_options(schema) for name in option.names]
    assert len(set(options)) == len(options)
    sections = [section for section, _ in tables(schema)]
    assert len(set(sections)) == len(sections)


@BY_PROGRAM
def test_only_variables_have_options_and_only_objects_require(schema):
    assert not any(row.required for row in schema.settings)
    assert not any(row.option or row.readonly for cls in schema.classes for row in cls.rows)


@BY_PROGRAM
def test_defaults_survive_the_hand_over_and_the_file(schema, tmp_path):
    config = default_config(schema)
    assert load(dump(config, schema), schema) == config
    path = tmp_path / "printed.conf"
    path.write_text(render_ini(config, schema))
    assert read_ini(str(path), schema, config) == config


@pytest.mark.parametrize("program", generate.CONFIGURED)
def test_samples_load(program, tmp_path, monkeypatch):
    schema = SCHEMAS[program]
    sample = (generate.ROOT / "etc" / f"{program}.conf").read_text()
    path = tmp_path / "sample.conf"
    path.write_text(sample)
    assert read_ini(str(path), schema, default_config(schema)) == default_config(schema)
    path.write_text(re.sub("^#(?! )", "", sample, flags=re.MULTILINE))
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    config = read_ini(str(path), schema, default_config(schema))
    assert config.variables == default_config(schema).variables
    for cls in schema.classes:
        assert {item.ident for item in config.items(cls.name)} == set(generate.EXAMPLES[program][cls.name])


@pytest.mark.parametrize("program", generate.CONFIGURED)
def test_man_pages_name_every_variable_and_key(program):
    text = (generate.ROOT / "man" / f"{program}.8").read_text()
    for _, rows in tables(SCHEMAS[program]):
        for row in rows:
            assert f'.BR {row.name} " ({row.kind.name})"' in text
            assert all(option.replace("-", "\\-") in text for option in row.option)
