"""Unix sockets that wait for peers: made, replaced, opened to others, removed."""

import os
import pwd
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from popular.addresses import UNIX_PEER, Endpoint, parse_listening
from popular.config.kinds import Listening
from popular.errors import StartError
from popular.net.holder import holders
from popular.net.listen import accept_bare, bound_endpoint
from popular.net.unixsocket import SocketAccess, bind_unix, open_unix, remove_unix, try_unix
from popular.unix.rights import find_rights

ACCESS = SocketAccess(0o640)


@pytest.fixture
def place(tmp_path: Path) -> Endpoint:
    """A path for a socket."""
    return Endpoint(str(tmp_path / "lmtp"), 0)


@pytest.mark.parametrize("text, wanted", [
    ("unix:/run/popular/lmtp", Endpoint("/run/popular/lmtp", 0)),
    (" unix:/a:b[c]+e", Endpoint("/a:b[c]+e", 0)),
    ("127.0.0.1:24", Endpoint("127.0.0.1", 24)),
    ("unix:24", Endpoint("unix", 24)),    # a host of this name
])
def test_what_an_administrator_writes_is_shown_again(text: str, wanted: Endpoint) -> None:
    assert parse_listening(text) == wanted
    assert str(wanted) == text.strip()


@pytest.mark.parametrize("text", ["unix:", "unix:run/lmtp", "unix:0", "unix:/" + 107 * "x", "unix:/a b", "unix:/a\0",
                                  "unix:/é", "/run/lmtp", "unix:/a, unix:/a"])
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="unix:/run/popular/lmtp"):
        Listening().parse(text)


def test_a_socket_tells_its_path_and_nothing_of_its_peers(place: Endpoint) -> None:
    with bind_unix(place, 5, ACCESS) as sock, socket.socket(socket.AF_UNIX) as peer:
        assert bound_endpoint(sock) == place
        assert stat.S_IMODE(os.stat(place.host).st_mode) == 0o640
        assert [holder.pid for holder in holders("unix", place)] == [os.getpid()]
        peer.connect(place.host)
        fd, family, origin = accept_bare(sock)
        with closing(socket.socket(fileno=fd)):
            assert (family, origin, str(origin)) == (socket.AF_UNIX, UNIX_PEER, "unix")
        open_unix(place, SocketAccess(0o600))
        assert stat.S_IMODE(os.stat(place.host).st_mode) == 0o600


def test_a_socket_that_somebody_listens_at_is_neither_replaced_nor_removed(place: Endpoint) -> None:
    with bind_unix(place, 5, ACCESS) as sock:
        for use in (try_unix, lambda *words: bind_unix(place, 5, ACCESS)):
            with pytest.raises(StartError, match="already in use; another program listens there"):
                use(place, ACCESS)
        remove_unix(place)
        assert os.path.exists(place.host)
        assert sock.fileno() >= 0
    try_unix(place, ACCESS)
    assert os.path.exists(place.host)
    bind_unix(place, 5, ACCESS).close()
    remove_unix(place)
    assert not os.path.exists(place.host)
    remove_unix(place)


@pytest.mark.parametrize("path, group, wanted", [
    ("file", "", "something other than a socket has this name"), ("none/lmtp", "", "No such file or directory"),
    ("lmtp", "no-such-group", "no such group 'no-such-group'"),
])
def test_what_cannot_be_made(tmp_path: Path, path: str, group: str, wanted: str) -> None:
    (tmp_path / "file").write_text("precious")
    place, access = Endpoint(str(tmp_path / path), 0), SocketAccess(0o660, group)
    for use in (try_unix, lambda *words: bind_unix(place, 5, access)):
        with pytest.raises(StartError, match=wanted):
            use(place, access)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes sockets for others")
@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_root_makes_it_for_the_service_user(tmp_path: Path, mode: int) -> None:
    """In a folder of theirs with their rights; where they may not make it, root does."""
    owner, group = find_rights("nobody", None), "daemon"
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    tmp_path.chmod(mode)
    place = Endpoint(str(tmp_path / "lmtp"), 0)
    with bind_unix(place, 5, SocketAccess(0o660, group), owner):
        status = os.stat(place.host)
    assert (pwd.getpwuid(status.st_uid).pw_name, status.st_gid) == ("nobody", find_rights("daemon", group).gid)
    assert os.geteuid() == 0
