"""The smallest pre-forking POP3 proxy that one can write in Python: the floor under pproxy.

    python -I -S floor_proxy.py PORT CHECKS BACKEND USES SPARE

At first SPARE children wait in accept(2) on 127.0.0.1:PORT, later half of them at least; each serves USES connections,
one after the other, and ends.  It believes every name and password, asks the pcheckd on port CHECKS for mail, plays an
empty mailbox itself, and leaves all others to the pserv on port BACKEND.  Whatever else a proxy must have is left out.

A child that gets a connection takes a token too, and gives it back; where none is left it rings, and the master
forks another child.  With one use each there are no tokens.

The module `socket` is Python around the sockets of `_socket`, and what it imports is paid for in each fork.
"""

import _socket as socket
import fcntl
import os
import select
import signal
import struct
import sys

HOST = "127.0.0.1"
LINE = 512              # octets of a client's line, and of any answer that is looked at
BLOCK = 16 * 1024       # octets copied at a time; more than that comes through a pipe inside the kernel
PIPE = 256 * 1024       # octets of the pipe, and asked for at a time; larger and smaller ones cost more
MAX_CHILDREN = 4096
LOOK = 30.0             # seconds between two looks of a child whether its master is still there
WAIT = struct.pack("ll", 10, 0)     # a struct timeval: how long a daemon's answer may take


def line_of(sock: socket.socket) -> bytes:
    """Return the next line with its end; nobody sends another one before our answer.  Raises OSError."""
    line = sock.recv(LINE)
    while not line.endswith(b"\n"):
        more = sock.recv(LINE)
        if not more or len(line) > LINE:
            raise ConnectionError("no line")
        line += more
    return line


def serve(client: socket.socket, checks: socket.socket, backend: int) -> None:
    """Play one session; raises OSError."""
    client.sendall(b"+OK ready\r\n")
    user = line_of(client)[len(b"USER "):].rstrip()
    client.sendall(b"+OK\r\n")
    line_of(client)
    mailbox = user[-2:] + b"/" + user       # as the benchmark's databases have it
    checks.send(b"*M" + mailbox)
    answer = checks.recv(LINE)
    if answer.startswith(b"+OK 0"):
        play_empty(client)
    elif answer.startswith(b"+OK"):
        relay(client, mailbox, backend)


def play_empty(client: socket.socket) -> None:
    """Be an empty mailbox until QUIT; raises OSError."""
    client.sendall(b"+OK\r\n")
    while (command := line_of(client)) != b"QUIT\r\n":
        client.sendall(b"+OK 0 0\r\n" if command == b"STAT\r\n" else b"-ERR\r\n")
    client.sendall(b"+OK\r\n")


def relay(client: socket.socket, mailbox: bytes, backend: int) -> None:
    """Log in at the backend by XPOP and pass on what both sides say until one of them closes; raises OSError."""
    server = socket.socket()        # closed as soon as nobody holds it
    server.connect((HOST, backend))
    server.sendall(mailbox + b"\r\nfloor\r\n\r\n")     # its answer is the first that the client gets
    pairs = {client.fileno(): (client, server), server.fileno(): (server, client)}
    poll = select.poll()
    for fd in pairs:
        poll.register(fd, select.POLLIN)
    pipe: list[int] = []
    try:
        while all(move(*pairs[fd], pipe) for fd, _ in poll.poll()):
            pass
    finally:
        for fd in pipe:
            os.close(fd)


def move(source: socket.socket, sink: socket.socket, pipe: list[int]) -> bool:
    """Move what has come; False when the source has closed; raises OSError.  A block that comes full makes the pipe."""
    if not pipe:
        block = source.recv(BLOCK)
        sink.sendall(block)
        if len(block) == BLOCK:
            pipe += os.pipe()
            fcntl.fcntl(pipe[0], fcntl.F_SETPIPE_SZ, PIPE)
        return bool(block)
    count = left = os.splice(source.fileno(), pipe[1], PIPE)
    while left:
        left -= os.splice(pipe[0], sink.fileno(), left)
    return count > 0


def work(listener: socket.socket, tokens: int, bell: int, ports: tuple[int, int], uses: int) -> None:
    """Be a child: serve connections."""
    signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
    checks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    checks.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, WAIT)
    checks.connect((HOST, ports[0]))
    for use in range(uses):
        fd, _ = listener._accept()      # type: ignore[attr-defined]
        client = socket.socket(fileno=fd)
        if uses == 1 or not takes_token(tokens):
            os.write(bell, b"!")
        try:
            serve(client, checks, ports[1])
        except BlockingIOError:
            return          # pcheckd is silent; a late answer must not be taken for the next one
        except OSError:
            pass
        client.close()
        if use < uses - 1:
            os.eventfd_write(tokens, 1)


def takes_token(tokens: int) -> bool:
    """Take one of the tokens; False when none is left."""
    try:
        return os.eventfd_read(tokens) == 1
    except BlockingIOError:
        return False


def main(port: int, checks: int, backend: int, uses: int, spare: int) -> None:
    """Be the master: fork a child for each ring."""
    os.setpgid(0, 0)
    master = os.getpid()
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(master, signal.SIGKILL))
    signal.signal(signal.SIGALRM, lambda *_: None if os.getppid() == master else os._exit(1))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)      # what it accepts has it too
    tokens = os.eventfd(spare // 2 if uses > 1 else 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    ear, bell = os.pipe()
    alive, wanted = 0, spare
    while True:
        while wanted and alive < MAX_CHILDREN:
            if os.fork() == 0:
                try:
                    work(listener, tokens, bell, (checks, backend), uses)
                finally:
                    os._exit(0)
            alive, wanted = alive + 1, wanted - 1
        wanted += len(os.read(ear, LINE))
        while alive and os.waitpid(-1, os.WNOHANG)[0]:
            alive -= 1


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
