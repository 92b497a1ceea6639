"""XCLIENT, by which a proxy tells the next server whom it serves: `XCLIENT ADDR=192.0.2.1 PORT=50123 SESSION=…`.

An extension of Dovecot.  Its servers offer it to proxies that they trust, by [XCLIENT] in the greeting; ours say so in
CAPA, too.  Used in the children of pproxy, toward clients and backends; loaded only there.  Pure.
"""

import socket
from collections.abc import Mapping

from popular.addresses import Endpoint, is_ip
from popular.errors import CommandRefused
from popular.net.proxyheader import MAX_IDENT, ClientOrigin, host_of

_WORD = "XCLIENT"
HOPS = 5           # proxies that a session may pass, as in Dovecot

_TLS = "TLS"


def parse_xclient(argument: bytes) -> ClientOrigin:
    """Return what the argument says; unknown words are ignored.  Raises CommandRefused."""
    words: dict[str, str] = {}
    for word in argument.decode("ascii", "replace").split():
        name, equals, value = word.partition("=")
        if not equals or name.upper() in words:
            raise CommandRefused(f"{_WORD} needs NAME=VALUE, each once")
        words[name.upper()] = value
    client = _endpoint(words, "ADDR", "PORT")
    if client is None:
        raise CommandRefused(f"{_WORD} needs ADDR=")
    return ClientOrigin(
        client, _endpoint(words, "DESTADDR", "DESTPORT"),
        tls=_TLS if words.get("CLIENT-TRANSPORT", "").startswith(_TLS) else "",
        ident=words.get("SESSION", "")[:MAX_IDENT], authority=words.get("DESTNAME", ""), ttl=_number(words, "TTL", 255))


def build_xclient(client: Endpoint, local: Endpoint, ident: str, ttl: int, *, is_secure: bool) -> bytes:
    """Return the command, with its line end, for a client whose connection goes to `local`; both are numeric."""
    words = {"ADDR": _plain(client), "PORT": client.port, "DESTADDR": _plain(local), "DESTPORT": local.port,
             "SESSION": ident, "TTL": ttl, "CLIENT-TRANSPORT": _TLS if is_secure else "insecure"}
    return " ".join([_WORD, *(f"{name}={value}" for name, value in words.items())]).encode("ascii") + b"\r\n"


def _plain(endpoint: Endpoint) -> str:
    return endpoint.host.partition("%")[0]


def _endpoint(words: Mapping[str, str], address: str, port: str) -> Endpoint | None:
    host = words.get(address)
    if host is None:
        return None
    if "%" in host or not is_ip(host):
        raise CommandRefused(f"{address} is not an address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    host = host_of(family, socket.inet_pton(family, host))
    if host in ("0.0.0.0", "::"):
        raise CommandRefused(f"{address} is not an address")
    return Endpoint(host, _number(words, port, 0xffff))


def _number(words: Mapping[str, str], name: str, most: int) -> int:
    text = words.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= most):
        raise CommandRefused(f"{name} is not a number up to {most}")
    return int(text)
