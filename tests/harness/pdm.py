"""Database modules as pproxy would load them, questions for them, and a process that answers these."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from popular.paths import pdm_dir
from popular.pdm.api import PdmModule, Request
from popular.pdm.asking.channel import Channel
from popular.pdm.asking.loader import load_module
from popular.pproxy.modules.worker import WorkerJob


def make_module(name: str, *args: object, ident: str = "") -> Any:
    """Load the shipped module `name` with `args`; its id is its name unless given."""
    module: PdmModule = load_module(pdm_dir(), ident or name, name, [str(word) for word in args])
    return module


def make_request(user: str, password: str | bytes = "secret", *, namespace: str = "example.org",
                 ip: str = "127.0.0.1", protocol: str = "pop3") -> Request:
    """Return the question that pproxy would put for this login."""
    octets = password.encode() if isinstance(password, str) else password
    return Request(user=user, password=octets, ip=ip, protocol=protocol, namespace=namespace)


@contextmanager
def working(job: WorkerJob) -> Iterator[Channel]:
    """Have a process answer questions as a PDM worker does; yields the way to it."""
    pid = os.fork()
    if pid == 0:
        try:
            _work(job)
        finally:
            os._exit(0)
    try:
        job.channel.become_asker()
        yield job.channel
    finally:
        job.channel.close()
        os.waitpid(pid, 0)


def _work(job: WorkerJob) -> None:
    """Answer questions until nobody is left to ask."""
    job.channel.become_worker()
    poll = select.poll()
    poll.register(job.channel.works, select.POLLIN)
    with suppress(EOFError):
        while poll.poll():
            if (taken := job.channel.take()) is not None:
                job.serve(*taken)
