"""Texts made from the rows: the printed configuration, the sample file and the parts of man pages."""

import re

import pytest

from popular.config.ini.file import read_ini
from popular.config.ini.text import render_ini
from popular.config.kinds import Addresses, Bool, Dir, Id, Int, String, Time
from popular.config.render import man_objects, man_options, man_settings, sample_ini
from popular.config.setting import ObjectClass, Schema, Setting
from popular.config.store import FROM_FILE, default_config, with_item, with_variable

SCHEMA = Schema("pproxy", (
    Setting("pid", Int(0), 0, "Process id.", readonly=True),
    Setting("capadir", Dir(), "/no/such/capa", "Lists."),
    Setting("authtimeout", Time(0, 3600), 120.0, "Time for the login. A second sentence with a \\ in it.",
            option=("-a", "--auth-timeout")),
    Setting("debug", Bool(), False, "'Quoted' words first.", option=("--debug",)),
    Setting("sessionlimit", Int(1, 10), 5, "Slots.", readonly=True, at_start=True),
    Setting("sidprefix", Id(), None, "Prefix."),
    Setting("greeting", String(), "", ".A dot first."),
), (
    ObjectClass("vserv", "Virtual servers.", (
        Setting("address", Addresses(), None, "Where.", required=True),
        Setting("banner", String(), "POPular ready", "Greeting."),
    )),
))
EXAMPLES = {"vserv": {"main": {"address": "0.0.0.0:110, [::]:110"}, "other": {"address": "a:1", "banner": "a # b"}}}


def test_a_printed_configuration():
    config = with_variable(default_config(SCHEMA), SCHEMA, "authtimeout", "30")
    config = with_item(config, SCHEMA, "vserv", "main", {"address": "a:1", "banner": "a # \"b\""}, FROM_FILE)
    assert render_ini(config, SCHEMA) == r"""[pproxy]
#pid = 0
#capadir = /no/such/capa
authtimeout = 30s
debug = off
sessionlimit = 5
#sidprefix =
greeting = ""

[vserv]
    [[main]]
    address = a:1
    banner = "a # \x22b\x22"
"""


def test_a_sample_file():
    lines = sample_ini(SCHEMA, EXAMPLES).splitlines()
    for line in ("[pproxy]", "#authtimeout = 2m", "#sidprefix =", '#greeting = ""', "# Virtual servers.", "[vserv]",
                 "#[[main]]", "#address = 0.0.0.0:110, [::]:110", "#banner = POPular ready", '#banner = "a # b"'):
        assert line in lines
    assert not any(line.startswith("#pid") for line in lines)
    assert all(not line or line.startswith(("#", "[")) for line in lines)
    assert max(len(line) for line in lines) <= 98


def test_a_sample_file_says_nothing(tmp_path):
    path = tmp_path / "sample.conf"
    path.write_text(sample_ini(SCHEMA, EXAMPLES))
    assert read_ini(str(path), SCHEMA, default_config(SCHEMA)) == default_config(SCHEMA)


def test_a_sample_file_with_its_settings_uncommented_is_valid(tmp_path):
    path = tmp_path / "sample.conf"
    path.write_text(re.sub(r"^#(?! |capadir)", "", sample_ini(SCHEMA, EXAMPLES), flags=re.MULTILINE))
    config = read_ini(str(path), SCHEMA, default_config(SCHEMA))
    assert config.variables == default_config(SCHEMA).variables
    assert [item.ident for item in config.items("vserv")] == ["main", "other"]


def test_options_of_a_man_page():
    text = man_options(SCHEMA)
    assert ".TP\n\\fB\\-a\\fR \\fIAUTHTIMEOUT\\fR, \\fB\\-\\-auth\\-timeout\\fR \\fIAUTHTIMEOUT\\fR\n" in text
    assert ".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nShow a short text and end.\n" in text
    assert ".TP\n\\fB\\-\\-debug\\fR\n\\&'Quoted' words first.\n" in text
    assert "sidprefix" not in text


@pytest.mark.parametrize("entry", [
    pytest.param('.TP\n.BR authtimeout " (Time)"\nTime for the login.\nA second sentence with a \\e in it.\n'
                 "0s to 1h.\nDefault: 2m.\n", id="default"),
    pytest.param('.TP\n.BR pid " (Int)"\nProcess id.\nRead\\-only.\n', id="read-only"),
    pytest.param('.TP\n.BR sessionlimit " (Int)"\nSlots.\n1 to 10.\nDefault: 5.\n'
                 "Fixed once the program runs.\n", id="fixed"),
    pytest.param('.TP\n.BR sidprefix " (Id)"\nPrefix.\nNot set by default.\n', id="optional"),
    pytest.param('.TP\n.BR greeting " (String)"\n\\&.A dot first.\nDefault: empty.\n', id="empty"),
])
def test_settings_of_a_man_page(entry):
    assert entry in man_settings(SCHEMA)


def test_objects_of_a_man_page():
    assert man_objects(SCHEMA).startswith('.SS [vserv]\nVirtual servers.\n.TP\n.BR address " (Addresses)"\nWhere.\n')
    assert "Required.\n" in man_objects(SCHEMA)


def test_no_line_of_a_man_page_is_a_command_by_accident():
    for line in (man_options(SCHEMA) + man_settings(SCHEMA) + man_objects(SCHEMA)).splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split(" ")[0] in (".TP", ".BR", ".SS")
