"""CAPA in each state of each kind of virtual server: all that is told works, and nothing else (RFC 2449, RFC 6856)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.capabilities import told, try_after_login, try_before_login
from tests.harness.certificates import Authority, context_of
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient

PASSWORD = "sesame"
JOE, NOBODY = "joe", "nobody"    # with a mailbox in pserv, and with an empty one that the proxy shows
ANN, JOERG = "ann", "j\u00f6rg"    # with the same mailbox
LOST = "lost"                     # their backend is out of reach
MESSAGE = "Subject: \u00e4\u00f6\r\n\r\nx\r\n".encode()
_BASE = {"TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8", "LANG"}
_VSERVS: dict[str, dict[str, object]] = {
    "plain": {},
    "stls": {"tls": "starttls"},
    "implicit": {"tls": "implicit"},
    "strict": {"tls": "starttls", "plaintextauth": "off"},
    "bare": {"saslmechanisms": "none"},
    "full": {"utf8user": "on", "implementation": "on", "expire": 60, "logindelay": "90m"},
    "kept": {"expire": "never"},
}


@pytest.fixture(scope="module")
def daemons(module_rundir: Path, authority: Authority) -> Iterator[tuple[Daemon, Daemon]]:
    """A proxy with all kinds of virtual servers, and the pserv behind it."""
    folder = module_rundir
    spool = folder / "spool"
    for name in ("tmp", "new", "cur"):
        (spool / "box" / name).mkdir(parents=True)
    (spool / "box" / "new" / "945113196.14341_20").write_bytes(MESSAGE)
    users = folder / "users"
    users.write_bytes(b"".join(sorted(f"{user}:{{PLAIN}}{PASSWORD}:{backend}:xpop:{box}\n".encode()
                                      for user, backend, box in (
        (JOE, "store", "box"), (ANN, "store", "other"), (JOERG, "store", "other"), (NOBODY, "off", "box"),
        (LOST, "dead", "box")))))
    pair = authority.sign("mail.example.org")
    tls = {"certificate": pair.certificate, "key": pair.key}
    with Daemon.start("pserv", {
        "pserv": {"mailboxdir": spool, "expire": 30}, "server": {"main": {"address": "127.0.0.1:0"}},
    }, folder) as pserv, Daemon.start("pproxy", {
        "pproxy": {"authdelay": 0, "maxfailures": 0, "exempt": "none", "maxerrors": 100},
        "vserv": {name: {"address": "127.0.0.1:0", **values, **(tls if "tls" in values else {})}
                  for name, values in _VSERVS.items()},
        "backend": {"store": {"protocol": "xpop", "address": pserv.endpoint()},
                    "dead": {"protocol": "xpop", "address": "127.0.0.1:1", "softfail": "off"},
                    "off": {"protocol": "pop3", "address": "127.0.0.1:1", "enabled": "off"}},
        "pdm": {"users": {"module": "passwd", "args": users}},
    }, folder) as pproxy:
        yield pproxy, pserv
        assert not pproxy.bugs() and not pserv.bugs()


def connected(daemon: Daemon, vserv: str, authority: Authority) -> PopClient:
    """Return a client that has read the greeting."""
    client = PopClient(daemon.endpoint(vserv))
    if vserv == "implicit":
        client.sock = context_of(authority).wrap_socket(client.sock)
    client.greeting()
    return client


@pytest.mark.parametrize("user", [JOE, NOBODY])
@pytest.mark.parametrize(("vserv", "before", "more"), [
    ("plain", {"SASL"}, set()), ("stls", {"SASL", "STLS"}, set()), ("implicit", {"SASL"}, set()),
    ("strict", {"STLS"}, set()), ("bare", set(), set()), ("kept", {"SASL", "EXPIRE"}, {"EXPIRE"}),
    ("full", {"SASL", "EXPIRE", "LOGIN-DELAY", "IMPLEMENTATION"}, {"EXPIRE", "LOGIN-DELAY"}),
])
def test_what_is_told_is_what_works(daemons: tuple[Daemon, Daemon], authority: Authority, vserv: str,
                                    before: set[str], more: set[str], user: str) -> None:
    with connected(daemons[0], vserv, authority) as client:
        caps = try_before_login(client, user)
        assert set(caps) == (_BASE | before) - ({"USER"} if vserv == "strict" else set())
        if vserv == "strict":
            client.ok("LANG de")
        if "STLS" in caps:
            client.ok("STLS")
            client.sock = context_of(authority).wrap_socket(client.sock)
            assert client.err("X") == b"unknown command"    # what was said in clear does not count
            caps = try_before_login(client, user)
            assert set(caps) == _BASE | {"SASL"}
        client.ok(f"USER {user}")
        client.ok(f"PASS {PASSWORD}")
        later = try_after_login(client, 1 if user == JOE else 0)
        if user == JOE:    # pserv tells what it knows, and not what only a proxy does
            assert later.pop("EXPIRE") == ["30"]
            assert set(later) == _BASE | {"IMPLEMENTATION"}
        else:
            assert set(later) == _BASE | more | {"IMPLEMENTATION", "SASL"} - ({"SASL"} if vserv == "bare" else set())
            assert all(later[name] == caps[name] for name in set(later) & set(caps) - {"EXPIRE"})
        client.ok("QUIT")


def test_rfc_2449_login_delay(daemons: tuple[Daemon, Daemon], authority: Authority) -> None:
    """A mailbox is not opened sooner, whatever name is used for it; a login that fails does not count."""
    answers = []
    for user in (ANN, JOERG, ANN, LOST, LOST):
        with connected(daemons[0], "full", authority) as client:
            caps = told(client)
            assert (caps["LOGIN-DELAY"], caps["EXPIRE"], caps["UTF8"]) == (["5400"], ["60", "USER"], ["USER"])
            client.ok(f"USER {user}".encode())
            answers.append(client.command(f"PASS {PASSWORD}"))
    assert answers[0].startswith(b"+OK") and all(answer.startswith(b"-ERR [SYS/TEMP]") for answer in answers[3:])
    assert answers[1:3] == [b"-ERR [LOGIN-DELAY] Logins to this mailbox must be further apart"] * 2
    assert [line.count("login_too_soon") for line in daemons[0].wait_log("login_too_soon", count=2)] == [1, 1]
    with connected(daemons[0], "plain", authority) as client:    # which has no delay
        client.ok(f"USER {ANN}")
        client.ok(f"PASS {PASSWORD}")


def test_the_language_goes_along(daemons: tuple[Daemon, Daemon], authority: Authority) -> None:
    """To pserv; and a message with UTF-8 in its header is sent as it lies, with UTF8 and without."""
    for words in (["UTF8", "LANG de"], ["LANG de-CH"]):
        with connected(daemons[0], "plain", authority) as client:
            for each in words:
                client.ok(each)
            client.ok(f"USER {JOE}")
            assert client.ok(f"PASS {PASSWORD}").endswith(b"1 Nachrichten (20 Oktette)")
            assert client.message(1) == MESSAGE
            assert client.ok("QUIT") == b"auf Wiedersehen"
