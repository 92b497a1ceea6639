"""The module poauth as PDM workers have it: made for a test's provider, with one store for all."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from popular.pdm.oauth.keyfile import new_key, write_keys
from popular.pdm.oauth.oauthclient import Tokens
from tests.harness.authserver import SECRET, AuthServer
from tests.harness.pdm import make_module

Load = Callable[..., Any]
JOE, ANN = "joe@example.org", "ann@example.org"


@contextmanager
def loading(server: AuthServer, cafile: str, folder: Path) -> Iterator[Load]:
    """Yield a function that makes an open module with more arguments; the store is `tokens.db` in `folder`."""
    write_keys(str(folder / "key"), [new_key()], 0, 0)
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o400)
    with ExitStack() as stack:
        def make(*more: str, ident: str = "gate") -> Any:
            words = server.words(f"store={folder}/tokens.db", f"keyfile={folder}/key", f"cafile={cafile}", *more,
                                 secretfile=str(folder / "secret"))
            module = make_module("poauth", *words, ident=ident)
            module.open()
            stack.callback(module.close)
            return module
        yield make


def grant(module: Any, server: AuthServer, user: str = JOE, seconds: float = 0.0) -> str:
    """Have a user consent, with an access token for so long; return the refresh token."""
    refresh = server.consent(user)
    store_of(module).grant(user, Tokens(f"first-of-{user}", seconds, refresh))
    return refresh


def store_of(module: Any) -> Any:
    """Return the TokenStore of an open module."""
    return module._gateway.store


def token(module: Any, user: str = JOE, seconds: float = 10.0, refused: str = "") -> str:
    """Return what the module gives within so many seconds, after a backend has `refused` a token."""
    found: str = module.token(user, "store", time.monotonic() + seconds, refused)
    return found
