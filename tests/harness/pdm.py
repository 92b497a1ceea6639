"""Database modules as pproxy would load them, and questions for them."""

from typing import Any

from popular.paths import pdm_dir
from popular.pdm.api import PdmModule, Request
from popular.pdm.loader import load_module


def make_module(name: str, *args: object, ident: str = "") -> Any:
    """Load the shipped module `name` with `args`; its id is its name unless given."""
    module: PdmModule = load_module(pdm_dir(), ident or name, name, [str(word) for word in args])
    return module


def make_request(user: str, password: str | bytes = "secret", *, namespace: str = "example.org",
                 ip: str = "127.0.0.1", protocol: str = "pop3") -> Request:
    """Return the question that pproxy would put for this login."""
    octets = password.encode() if isinstance(password, str) else password
    return Request(user=user, password=octets, ip=ip, protocol=protocol, namespace=namespace)
