"""Trials of what CAPA tells: each capability that is told must work, and what works must be told."""

from collections.abc import Iterable

from tests.harness.popclient import PopClient

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")
_SAYINGS = {"RESP-CODES", "EXPIRE", "IMPLEMENTATION", "LOGIN-DELAY"}    # which no command shows, or only a login
_EVERY = _SAYINGS | {"TOP", "UIDL", "USER", "AUTH-RESP-CODE", "PIPELINING", "SASL", "STLS", "UTF8", "LANG"}
ODD = ("XTND XLST", "RPOP joe", "LAST", "XCLIENT ADDR=192.0.2.1", "APOP joe c4c9334bac560ecc979e58001b3e22fb")

Told = dict[str, list[str]]


def told(client: PopClient) -> Told:
    """Return the capabilities with their arguments."""
    lines = [line.decode().split() for line in client.multi("CAPA")]
    found = {words[0]: words[1:] for words in lines}
    assert len(found) == len(lines) and set(found) <= _EVERY
    return found


def try_before_login(client: PopClient, user: str, odd: Iterable[str] = ODD) -> Told:
    """Try all capabilities before the login, but not STLS if it is told; returns what is told.

    The last command is a refused login, if that is possible, so that only other words may follow.
    """
    caps = told(client)
    for mechanism in MECHANISMS:
        is_told = mechanism in caps.get("SASL", [])
        answer = client.command(f"AUTH {mechanism}")
        assert answer.startswith(b"+ " if is_told else b"-ERR"), mechanism
        if is_told:
            client.err("*")
    _try_anywhere(client, caps)
    assert client.command("UTF8").startswith(b"+OK") is ("UTF8" in caps)
    if "STLS" not in caps:
        assert client.err("STLS") == b"unknown command"
    for words in [*odd, "TOP 1 0", "UIDL"]:
        assert client.err(words) == b"unknown command", words
    assert client.command(f"USER {user}").startswith(b"+OK") is ("USER" in caps)
    if "USER" in caps:
        is_prepared = client.command(b"USER \xff").startswith(b"-ERR")
        assert is_prepared is (caps.get("UTF8") == ["USER"])
        client.ok(f"USER {user}")
        assert client.command("PASS wrong").startswith(b"-ERR [AUTH] ") is ("AUTH-RESP-CODE" in caps)
    return caps


def try_after_login(client: PopClient, messages: int) -> Told:
    """Try all capabilities in a mailbox with so many messages; returns what is told."""
    caps = told(client)
    _try_anywhere(client, caps)
    assert {"TOP", "UIDL"} <= set(caps) and len(client.multi("UIDL")) == messages
    if messages:
        assert client.multi("TOP 1 0")
    else:
        assert not client.err("TOP 1 0").endswith(b"unknown command")
    for words in ("UTF8", "STLS", "AUTH PLAIN", "USER joe", *ODD):
        assert client.err(words) == b"unknown command", words
    assert caps["IMPLEMENTATION"] == ["POPular"]
    return caps


def _try_anywhere(client: PopClient, caps: Told) -> None:
    assert "PIPELINING" in caps
    client.send(b"NOOP\r\nNOOP\r\n")
    assert [client.line(), client.line()] == [b"+OK", b"+OK"]
    if "LANG" in caps:
        assert client.multi("LANG") == [b"i-default English", b"en English", b"de Deutsch"]
        assert client.ok("LANG de") == b"de von jetzt an auf Deutsch" and client.err("X") == b"unbekannter Befehl"
        client.ok("LANG *")
    assert client.command("LANG en").startswith(b"+OK") is ("LANG" in caps)
