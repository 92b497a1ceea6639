"""Configurations of Dovecot are written once and come out in the language of the installed version."""

import re
from pathlib import Path

import pytest

from tests.bench.foreground import CONFIGS
from tests.harness import dovecot
from tests.harness.dovecot_config import LANGUAGES, VERSIONS, configure, language_of

WORDS = dict.fromkeys("folder port user group users uid gid homes backend tls certificate key".split(), "x")


@pytest.mark.parametrize(("version", "language"), [
    ("2.3.19.1 (9b53102964)", "2.3"),
    ("2.4.1-4 (7d8c0e5759)", "2.4"),
    ("2.2.36", None),
    ("2.30.1", None),
    ("2.40.0", None),
    ("2.5.0", None),
    ("", None),
])
def test_the_language_of_a_version(version, language):
    assert language_of(version) == language


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function (version) that puts a dovecot into PATH that calls itself that."""
    libexec = tmp_path / "libexec"
    (libexec / "dovecot").mkdir(parents=True)
    (libexec / "dovecot" / "pop3").touch()
    monkeypatch.setattr(dovecot, "LIBEXEC", (libexec,))

    def install(version: str) -> str:
        program = tmp_path / "dovecot"
        program.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo '{version}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return str(program)

    return install


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_are_used(installed, version):
    path = installed(f"{version}.7 (0123456789)")
    assert dovecot.find_dovecot() == (path, version)


def test_another_version_is_refused_by_name(installed):
    installed("2.2.36 (1f10bfa63)")
    with pytest.raises(dovecot.NoDovecot, match=r"^Dovecot is 2\.2\.36 \(1f10bfa63\), neither 2\.3 nor 2\.4$"):
        dovecot.find_dovecot()


TEMPLATES = {path.name: path.read_text() for path in CONFIGS.glob("dovecot-*.conf")}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_only_one_version_knows_is_in_the_table_alone(name):
    old, new = ({line.split()[0] for texts in LANGUAGES.values() for line in texts[column].splitlines()
                 if line[0] not in " }"} for column in (0, 1))
    assert not {line.split()[0] for line in TEMPLATES[name].splitlines() if line} & (old ^ new)


@pytest.mark.parametrize("language", VERSIONS)
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_word_is_filled_in(name, language):
    assert not re.search(r"(?<!%)\{\w", configure(TEMPLATES[name], language, **WORDS))


@pytest.mark.parametrize("language", VERSIONS)
def test_the_version_comes_before_every_setting_where_there_is_one(language):
    text = configure(TEMPLATES["dovecot-common.conf"], language, **WORDS)
    first = next(line for line in text.splitlines() if line and not line.startswith("#"))
    assert first.startswith("dovecot_config_version") == (language == "2.4")


def test_a_word_that_nobody_knows_is_an_error():
    with pytest.raises(KeyError, match="mail_locatoin"):
        configure("{mail_locatoin}\n", "2.4")
