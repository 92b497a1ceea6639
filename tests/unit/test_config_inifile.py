"""The INI file: what is read, and that every mistake of a file stands in one report."""

import errno
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from popular.addresses import Endpoint
from popular.config.ini import file as inifile
from popular.config.ini.file import MAX_BYTES, examine_ini, read_ini
from popular.config.ini.text import quote, render_ini, unquote
from popular.config.kinds import Address, Addresses, Bool, Choice, Dir, File, Float, Id, Int, String, Time
from popular.config.mistakes import ConfigError
from popular.config.setting import ObjectClass, Schema, Setting
from popular.config.store import FROM_FILE, Config, Item, Values, WrongValue, default_config, with_fact, with_item

SCHEMA = Schema("pproxy", (
    Setting("pid", Int(0), 0, "Process id.", readonly=True),
    Setting("rundir", Dir(), "/no/such/rundir", "Run directory.", readonly=True, option=("-r", "--rundir")),
    Setting("logfile", File(), "/var/log/popular/pproxy", "Log.", option=("-l", "--logfile")),
    Setting("maxsession", Int(1, 1000), 100, "Sessions."),
    Setting("authtimeout", Time(0, 3600), 120.0, "Login."),
    Setting("maxlocalload", Float(0, 1000), 0.0, "Load."),
    Setting("softfail", Bool(), True, "Soft failure."),
    Setting("sidprefix", Id(), None, "Prefix."),
    Setting("greeting", String(), "hello", "Text."),
    Setting("source", Address(), None, "Address."),
    Setting("password", String(), "", "Secret.", secret=True),
), (
    ObjectClass("vserv", "Virtual servers.", (
        Setting("address", Addresses(), None, "Where.", required=True),
        Setting("banner", String(), "POPular ready", "Greeting."),
        Setting("softfail", Bool(), None, "Override."),
    )),
    ObjectClass("pdm", "Modules.", (
        Setting("module", Choice("any", "passwd"), None, "Module.", required=True),
        Setting("args", String(), "", "Arguments."),
    )),
))
DEFAULT = default_config(SCHEMA)


def read(tmp_path: Path, text: str | bytes) -> Config:
    path = tmp_path / "pproxy.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_ini(str(path), SCHEMA, DEFAULT)


def mistakes(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    prefix = f"{tmp_path}/pproxy.conf"
    for mistake in caught.value.mistakes:
        assert mistake.where.startswith(prefix)
    return [str(mistake).removeprefix(prefix).removeprefix(": ") for mistake in caught.value.mistakes]


@pytest.mark.parametrize("text", [
    pytest.param("", id="empty"),
    pytest.param("\n\n# only\n   # comments\n", id="comments"),
    pytest.param("[pproxy]\n[vserv]\n[pdm]\n", id="empty-sections"),
    pytest.param("\ufeff[pproxy]\n", id="byte-order-mark"),
    pytest.param("[pproxy]\r\nmaxsession = 100\r\n", id="crlf"),
    pytest.param("[pdm]\n[pproxy]\n", id="any-order"),
])
def test_a_file_that_says_nothing_new(tmp_path, text):
    assert read(tmp_path, text) == DEFAULT


def test_variables_and_objects(tmp_path):
    config = read(tmp_path, """
# a comment
[pproxy]                      # variables
maxsession = 7                # and one behind a value
  authtimeout=1m30s
"greeting" = hi
[vserv]
    [[main]]
    address = 0.0.0.0:110, [::]:110
    banner = "a # b"          # unquoted by us
    [[second]]
    address = 127.0.0.1:0
    softfail = off
[pdm]
[[users]]
module = passwd
args = /etc/popular/users namespace=a
[[rest]]
module = any
""")
    assert config.variables.integer("maxsession") == 7
    assert config.variables.seconds("authtimeout") == 90
    assert config.variables.text("greeting") == "hi"
    main, second = config.items("vserv")
    assert (main.ident, second.ident, main.origin) == ("main", "second", FROM_FILE)
    assert main.values.endpoints("address") == (Endpoint("0.0.0.0", 110), Endpoint("::", 110))
    assert main.values.text("banner") == "a # b"
    assert second.values["softfail"] is False
    assert [item.ident for item in config.items("pdm")] == ["users", "rest"], "modules are asked in this order"


@pytest.mark.parametrize("value, text", [
    pytest.param("plain words", "plain words", id="bare"),
    pytest.param("bare # comment", "bare", id="comment"),
    pytest.param("bare# comment", "bare", id="comment-without-space"),
    pytest.param('"a # b" # c', "a # b", id="double"),
    pytest.param("'a # b' # c", "a # b", id="single"),
    pytest.param('""', "", id="empty-quotes"),
    pytest.param("", "", id="nothing"),
    pytest.param('"  a  "', "  a  ", id="spaces"),
    pytest.param("it's", "it's", id="quote-inside"),
    pytest.param("'say \"x\"'", 'say "x"', id="other-quotes-inside"),
    pytest.param(r'"say \x22x\x22"', 'say "x"', id="escaped-quotes"),
    pytest.param(r"'\x22'", r"\x22", id="no-escapes-in-single-quotes"),
    pytest.param(r"\x22", r"\x22", id="no-escapes-in-a-bare-value"),
    pytest.param(r'"a\b"', r"a\b", id="backslash"),
    pytest.param('"a b" "c d"', '"a b" "c d"', id="two-words-for-a-shell"),
    pytest.param("%(home)s $home", "%(home)s $home", id="no-interpolation"),
    pytest.param("a, b,", "a, b,", id="no-lists"),
    pytest.param("a = b", "a = b", id="equals-sign"),
    pytest.param("tschüß", "tschüß", id="utf8"),
])
def test_quoting(tmp_path, value, text):
    assert read(tmp_path, f"[pproxy]\ngreeting = {value}\n").variables.text("greeting") == text


ADDRESSES = "a list of addresses and ports such as 0.0.0.0:110, [::]:110, each once"
MISSING = "'address' is missing: where"

MISTAKES = [
    pytest.param("[pproxy]\nmaxsession = 0\n", "line 2: [pproxy] maxsession: '0' is not between 1 and 1000",
                 id="value"),
    pytest.param("[pproxy]\nmaxsession =\n", "line 2: [pproxy] maxsession: '' is not a whole number from 1 to 1000",
                 id="no-value"),
    pytest.param("[pproxy]\nauthtimeout = 70m\n", "line 2: [pproxy] authtimeout: '70m' is not between 0s and 1h",
                 id="bounds"),
    pytest.param("[pproxy]\n\nauthtimeout = 1 hour\n", "line 3: [pproxy] authtimeout: '1 hour' is not a time; write 1h",
                 id="time-in-words"),
    pytest.param("[pproxy]\nrundir = /no/such\n", "line 2: [pproxy] rundir: '/no/such' is not a directory that exists",
                 id="directory"),
    pytest.param("[pproxy]\npid = 3\n", "line 2: [pproxy] pid: only the program itself sets it", id="read-only"),
    pytest.param("[pproxy]\nmaxsesion = 3\n", "line 2: [pproxy]: unknown key 'maxsesion'; did you mean 'maxsession'?",
                 id="key"),
    pytest.param("[pproxy]\nzzz = 3\n", "line 2: [pproxy]: unknown key 'zzz'", id="no-hint"),
    pytest.param("[vserv]\n[[a]]\nadress = a:1\n",
                 "line 3: [vserv] a: unknown key 'adress'; did you mean 'address'?", id="key-of-an-object"),
    pytest.param("[vserv]\n[[a]]\naddress = a:1\nmaxsession = 3\n",
                 "line 4: [vserv] a: unknown key 'maxsession', which belongs in [pproxy]", id="key-of-another"),
    pytest.param("[pproxy]\nbanner = x\n", "line 2: [pproxy]: unknown key 'banner', which belongs in [vserv]",
                 id="key-of-objects"),
    pytest.param("[proxy]\nmaxsession = 3\n", "line 1: unknown section [proxy]; did you mean [pproxy]?", id="section"),
    pytest.param("[DEFAULT]\nmaxsession = 3\n", "line 1: unknown section [DEFAULT]; there are pproxy, vserv, pdm",
                 id="section-DEFAULT"),
    pytest.param("maxsession = 3\n", "line 1: 'maxsession' stands before any section; write [pproxy] above it",
                 id="no-section"),
    pytest.param("vserv = 3\n", "line 1: 'vserv' stands before any section", id="section-as-a-value"),
    pytest.param("[vserv]\nmain = 3\n", "line 2: 'main' stands in [vserv] before any [[ID]]", id="object-as-a-value"),
    pytest.param("[vserv]\n[main]\naddress = a:1\n",
                 "line 2: unknown section [main]; did you mean [[main]], an object of [vserv]?", id="one-bracket"),
    pytest.param("[pproxy]\n[[maxsession]]\n", "line 2: [[maxsession]] stands in [pproxy], which has no objects",
                 id="key-as-a-section"),
    pytest.param("[pproxy]\n[[main]]\naddress = a:1\n",
                 "line 2: [[main]] stands in [pproxy], which has no objects; write [vserv] above it", id="lost-object"),
    pytest.param("[vserv]\n[[a]]\naddress = a:1\n[[[deep]]]\naddress = a:2\n",
                 "line 4: [[[deep]]] is too deep; did you mean [[deep]]?", id="too-deep"),
    pytest.param("[vserv]\n[[a b]]\naddress = a:1\n",
                 "line 2: 'a b' is not an id of 1 to 64 letters, digits, ., - and _", id="id"),
    pytest.param("[vserv]\n\n[[a]]\n", f"line 3: [vserv] a: {MISSING}", id="required"),
    pytest.param("[vserv]\n[[__many__]]\n[[a]]\naddress = a:1\n", f"line 2: [vserv] __many__: {MISSING}",
                 id="id-of-configobj"),
    pytest.param("[vserv]\n[[a]]\naddress = a:x\n", f"line 3: [vserv] a: address: 'a:x' is not {ADDRESSES}",
                 id="object-value"),
    pytest.param("[pdm]\n[[a]]\nmodule = ldap\n", "line 3: [pdm] a: module: 'ldap' is not one of any, passwd",
                 id="choice"),
    pytest.param("[pdm]\n[[a]]\nmodule = paswd\n",
                 "line 3: [pdm] a: module: 'paswd' is not one of any, passwd; did you mean 'passwd'?",
                 id="near-choice"),
    pytest.param("[pproxy]\nmaxsession = 3\n\nmaxsession = 3\n",
                 "line 4: [pproxy]: 'maxsession' was already in line 2", id="key-twice"),
    pytest.param("[vserv]\n[[a]]\naddress = a:1\n[[a]]\naddress = a:2\n",
                 "line 4: [[a]] was already in [vserv] in line 2", id="object-twice"),
    pytest.param("[pproxy]\n[vserv]\n[pproxy]\nmaxsession = 3\n",
                 "line 3: [pproxy] was already in line 1; merge the two", id="section-twice"),
    pytest.param("[pproxy]\nrubbish\n", "line 2: 'rubbish' is not [SECTION], [[ID]] or KEY = VALUE", id="rubbish"),
    pytest.param("[pproxy]\nmaxsession: 3\n", "line 2: there is no = after maxsession; write maxsession = VALUE",
                 id="colon"),
    pytest.param("[pproxy\nmaxsession = 3\n", "line 1: '[pproxy' has unequal brackets; write [pproxy]",
                 id="bracket"),
    pytest.param("[pproxy]]\nmaxsession = 3\n", "line 1: '[pproxy]]' has unequal brackets; write [pproxy]",
                 id="brackets"),
    pytest.param("[vserv]\n[[main]\naddress = a:1\n", "line 2: '[[main]' has unequal brackets; write [[main]]",
                 id="bracket-of-an-object"),
    pytest.param("[]\n", "line 1: '[]' is not [SECTION], nor [[ID]] inside a section", id="no-name"),
    pytest.param("[vserv]\n[[ ]]\n", "line 2: '[[ ]]' is not [SECTION], nor [[ID]] inside a section", id="no-id"),
    pytest.param("[[main]]\naddress = a:1\n", "line 1: [[main]] stands before any section; write [vserv] above it",
                 id="object-without-class"),
    pytest.param("[pproxy]\ngreeting = \"a\n",
                 "line 2: 'greeting = ...': the value begins with quotes that are not closed", id="open-quote"),
    pytest.param("[pproxy]\ngreeting = '''a\nb'''\n", "line 2: [pproxy] greeting: 'a\\nb' is not one line of "
                 "text of at most 1024 characters", id="lines-in-a-value"),
    pytest.param("[pproxy]\ngreeting = '''a\n",
                 "line 2: 'greeting = ...': the value begins with quotes that are not closed", id="open-lines"),
    pytest.param(r'[pproxy]' + '\n' + r'greeting = "a\x0ab"' + '\n', r"line 2: [pproxy] greeting: 'a\nb' is not one "
                 "line of text of at most 1024 characters", id="escaped-line-end"),
    pytest.param("[pproxy]\npassword = " + "x" * 2000, "line 2: [pproxy] password: *** is not one line of text of at "
                 "most 1024 characters", id="secret"),
    pytest.param("[pproxy]\npassword = \"hunter2\n",
                 "line 2: 'password = ...': the value begins with quotes that are not closed", id="secret-in-quotes"),
    pytest.param("[pproxy]\n#" + "x" * 20000, "line 2: 20001 characters are too many, at most 20000", id="long-line"),
    pytest.param(b"[pproxy]\n\ngreeting = \xfc\n", "line 3: the octet fc is not UTF-8", id="latin1"),
    pytest.param("[pproxy]\nmax\0session = 3\n",
                 "line 2: [pproxy]: unknown key 'max\\x00session'; did you mean 'maxsession'?", id="nul"),
]


@pytest.mark.parametrize("text, report", MISTAKES)
def test_each_mistake(tmp_path, text, report):
    assert mistakes(tmp_path, text) == [report]


def test_every_mistake_in_one_report(tmp_path):
    report = mistakes(tmp_path, """[pproxy]
maxsession = 0
rubbish
maxsesion = 3
[vserv]
    [[a]]
    address = a:1
    address = a:2
    [[a]]
    baner = of an object that has another's name
    [[b]]
    [main]
    address = x
[nothing]
anything = is left alone
[pproxy]
maxlocalload = -1
[pdm]
    [[x]]
    module = ldap
[vserv]
    [[c]]
    address = a:3
    softfail = maybe
[vserver]
    [[d]]
    banner = x
""")
    assert report == [
        "line 2: [pproxy] maxsession: '0' is not between 1 and 1000",
        "line 3: 'rubbish' is not [SECTION], [[ID]] or KEY = VALUE",
        "line 4: [pproxy]: unknown key 'maxsesion'; did you mean 'maxsession'?",
        "line 8: [vserv] a: 'address' was already in line 7",
        "line 9: [[a]] was already in [vserv] in line 6",
        f"line 9: [vserv] a: {MISSING}",
        "line 10: [vserv] a: unknown key 'baner'; did you mean 'banner'?",
        f"line 11: [vserv] b: {MISSING}",
        "line 12: unknown section [main]; did you mean [[main]], an object of [vserv]?",
        f"line 13: [vserv] main: address: 'x' is not {ADDRESSES}",
        "line 14: unknown section [nothing]; there are pproxy, vserv, pdm",
        "line 16: [pproxy] was already in line 1; merge the two",
        "line 17: [pproxy] maxlocalload: '-1' is not between 0 and 1000",
        "line 20: [pdm] x: module: 'ldap' is not one of any, passwd",
        "line 21: [vserv] was already in line 5; merge the two",
        "line 24: [vserv] c: softfail: 'maybe' is not on or off (also 1 true yes, 0 false no)",
        "line 25: unknown section [vserver]; did you mean [vserv]?",
        f"line 26: [vserv] d: {MISSING}",
    ]


def test_what_is_right_is_there_beside_mistakes(tmp_path):
    path = tmp_path / "pproxy.conf"
    path.write_text("[pproxy]\nmaxsession = 0\ngreeting = hi\n[pdm]\n[[a]]\nmodule = any\n[[b]]\nmodule = x\n")
    reading = examine_ini(str(path), SCHEMA, DEFAULT)
    assert len(reading.mistakes) == 2
    variables, (one, other) = reading.config.variables, reading.config.items("pdm")
    assert (variables.text("greeting"), one.values.text("module")) == ("hi", "any")
    for values, name in (variables, "maxsession"), (other.values, "module"):
        with pytest.raises(WrongValue):
            values.text(name)
    assert reading.places["[pdm] a: module"] == f"{path}: line 6"


def test_file_names_count_from_the_folder_of_the_file(tmp_path):
    (tmp_path / "run").mkdir()
    config = read(tmp_path, "[pproxy]\nrundir = run\nlogfile = logs/../pproxy.log\n")
    assert config.variables.text("rundir") == f"{tmp_path}/run"
    assert config.variables.text("logfile") == f"{tmp_path}/logs/../pproxy.log"


@pytest.mark.parametrize("name, found", [
    pytest.param("missing.conf", "No such file or directory", id="missing"),
    pytest.param("", "Is a directory", id="directory"),
    pytest.param("a\0b", "not a file name", id="nul"),
])
def test_a_file_that_cannot_be_read(tmp_path, name, found):
    with pytest.raises(ConfigError, match=f"{found}$"):
        read_ini(f"{tmp_path}/{name}", SCHEMA, DEFAULT)


def test_a_file_without_the_right_to_read_it(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", path)
    monkeypatch.setattr(inifile, "open", refuse, raising=False)
    with pytest.raises(ConfigError, match="Permission denied$"):
        read(tmp_path, "")


def test_an_endless_file(tmp_path):
    path = tmp_path / "pproxy.conf"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match=f"more than {MAX_BYTES} octets"):
        read_ini(str(path), SCHEMA, DEFAULT)


TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")) | st.sampled_from("\t'\"#\\x2 ,=%$[]"),
                max_size=40)
IDS = st.text("abcXYZ019_-.", min_size=1, max_size=12)
ENDPOINTS = st.builds(Endpoint, st.ip_addresses().map(str) | st.just("store1.example"), st.integers(1, 65535))
BOOLS = st.booleans()
VARIABLES = st.fixed_dictionaries({
    "pid": st.just(0),
    "rundir": st.sampled_from(["/no/such/rundir", "/"]),
    "logfile": TEXTS.map(lambda text: "/var/" + text),
    "maxsession": st.integers(1, 1000),
    "authtimeout": st.integers(0, 3_600_000).map(lambda number: number / 1000),
    "maxlocalload": st.floats(0, 1000),
    "softfail": BOOLS,
    "sidprefix": st.none() | IDS,
    "greeting": TEXTS,
    "source": st.none() | ENDPOINTS,
    "password": TEXTS,
})
VSERV = st.fixed_dictionaries({"address": st.lists(ENDPOINTS, min_size=1, max_size=3, unique=True).map(tuple),
                               "banner": TEXTS, "softfail": st.none() | BOOLS})
PDM = st.fixed_dictionaries({"module": st.sampled_from(["any", "passwd"]), "args": TEXTS})


def objects(values):
    return st.dictionaries(IDS, values, max_size=4).map(
        lambda found: tuple(Item(ident, Values(each), FROM_FILE) for ident, each in found.items()))


CONFIGS = st.builds(Config, VARIABLES.map(Values),
                    st.fixed_dictionaries({"vserv": objects(VSERV), "pdm": objects(PDM)}))


@settings(deadline=None)
@given(CONFIGS)
def test_a_printed_configuration_loads_to_the_same(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "printed.conf"
    path.write_text(render_ini(config, SCHEMA), encoding="utf-8")
    assert read_ini(str(path), SCHEMA, DEFAULT) == config


@settings(deadline=None)
@given(TEXTS)
@example("\"\"\"")
@example("'''")
@example("\\x22")
@example("\\\\x5c")
@example("a \"# b\" '# c'")
@example("\xa0a\u3000")
def test_quoted_text_is_read_again(text):
    assert unquote(quote(text)) == text


@settings(deadline=None)
@given(st.text(st.sampled_from("[]=#'\"\n ab\\\t\r\0,") | st.characters(), max_size=200))
def test_no_text_makes_a_file_raise_anything_else(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "random.conf"
    path.write_bytes(b"[pproxy]\n" + text.encode("utf-8", "surrogatepass"))
    try:
        read_ini(str(path), SCHEMA, DEFAULT)
    except ConfigError as why:
        assert why.mistakes


def test_a_printed_configuration_shows_secrets_and_hides_what_cannot_be_set(tmp_path):
    config = with_fact(read(tmp_path, "[pproxy]\npassword = hunter2\n"), "pid", 4711)
    lines = render_ini(config, SCHEMA).splitlines()
    assert "password = hunter2" in lines
    assert "#pid = 4711" in lines and "#sidprefix =" in lines and "#rundir = /no/such/rundir" in lines


def test_a_file_replaces_an_object_that_was_there(tmp_path):
    before = with_item(DEFAULT, SCHEMA, "pdm", "users", {"module": "any", "args": "x"}, FROM_FILE)
    path = tmp_path / "pproxy.conf"
    path.write_text("[pdm]\n[[users]]\nmodule = passwd\n")
    users, = read_ini(str(path), SCHEMA, before).items("pdm")
    assert users.values == {"module": "passwd", "args": ""}
