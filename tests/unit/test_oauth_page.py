"""docs/oauth-gateway.md: its configurations are read, and its commands typed, with a stand-in for the provider."""

import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from popular.config.ini.file import read_ini
from popular.config.store import default_config
from popular.pproxy.settings import SCHEMA
from popular.tools import poauth
from tests.harness.authserver import CLIENT, SCOPE, SECRET, AuthServer
from tests.harness.certificates import Authority
from tests.harness.daemon import ROOT
from tests.harness.manpages import Example, commands_of
from tests.harness.markdown import Code, code_blocks
from tests.harness.needs import need_module

need_module("cryptography")
need_module("urllib3")

BLOCKS = list(code_blocks((ROOT / "docs/oauth-gateway.md").read_text()))
HEADINGS = sorted({block.headings for block in BLOCKS if block.language == "ini"})


@pytest.fixture
def server(authority: Authority) -> Iterator[AuthServer]:
    made = AuthServer(authority.sign("localhost", stem="oauth"), someone="tickets@example.com")
    yield made
    made.close()


def adapted(block: Code, server: AuthServer, authority: Authority, folder: Path) -> str:
    """Return a configuration of the page with the stand-in in place of the provider, and our folder."""
    text = re.sub(r"clientid=\S+?(?=[\s\"]|$)", f"clientid={CLIENT}", block.text, flags=re.MULTILINE)
    text = text.replace("/etc/popular", str(folder))
    more = [f"tokenurl={server.url}/token", f"authurl={server.url}/authorize?theme=x", f"cafile={authority.cafile}",
            f"scope={SCOPE}", f"store={folder}/tokens.db", f"keyfile={folder}/oauth.key",
            *([f"deviceurl={server.url}/device"] if "provider=microsoft" in text else []),
            *([f"secretfile={folder}/oauth.secret"] if "secretfile" not in text else [])]
    return re.sub(r"args = \"?(provider=.*?)\"?$", rf"args = \1 {shlex.join(more)}", text, flags=re.MULTILINE)


@pytest.mark.parametrize("headings", HEADINGS, ids=lambda headings: headings[-1])
def test_what_is_typed_there(headings: tuple[str, ...], server: AuthServer, authority: Authority, tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    [config] = [block for block in BLOCKS if (block.headings, block.language) == (headings, "ini")]
    [console] = [block for block in BLOCKS if (block.headings, block.language) == (headings, "console")]
    (tmp_path / "pproxy.conf").write_text(config.text)
    backends = read_ini(str(tmp_path / "pproxy.conf"), SCHEMA, default_config(SCHEMA)).items("backend")
    assert [item.values.text("auth") for item in backends] == ["xoauth2"]
    (tmp_path / "oauth.secret").write_text(SECRET)
    (tmp_path / "oauth.secret").chmod(0o400)
    (tmp_path / "pproxy.conf").write_text(f"[pproxy]\nuser = root\n{adapted(config, server, authority, tmp_path)}\n")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    shown: list[str] = []

    def paste(size: int) -> str:
        shown.append(capsys.readouterr().out)
        [url] = re.findall(r"^ +(https://.*)$", shown[0], re.MULTILINE)
        return server.browse(url, "tickets@example.com")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=paste))
    for command in commands_of(Example("oauth-gateway.md", 0, "shell", (), console.text + "\n")):
        program, *words = shlex.split(command.text)
        assert program == "poauth"
        code = poauth.run(["-c", str(tmp_path / "pproxy.conf"), *words])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "") and command.is_answer("".join(shown) + out), (command, out)
        shown.clear()
