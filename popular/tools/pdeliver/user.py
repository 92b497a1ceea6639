"""Where a user's mail is and how much of it they may have, for `pdeliver --user` and `pmailbox --usage --user`.

Part of these tools, loaded only with that option.  The database modules of pproxy are asked, with its
configuration; those that wait for a server, too, in this process.  If root runs it, the process becomes pproxy's user,
because modules are foreign code.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from popular.config.ini.file import read_ini
from popular.config.store import Config, Item, default_config
from popular.errors import PdmError, PopularError
from popular.names import is_mailbox
from popular.pdm.api import Found, Outcome
from popular.pdm.asking.chain import Chain
from popular.pdm.asking.configured import configured_module
from popular.pproxy.objects import name_asked
from popular.pproxy.settings import SCHEMA
from popular.unix.rights import drop, find_rights

MAIL_STORES = ("cxpop", "xpop")    # protocols of backends whose mailboxes we can write


@dataclass(frozen=True, slots=True)
class UserToFind:
    """A user to find."""

    config: str                 # the INI file of pproxy
    user: str                   # as a client would send it
    namespace: str              # empty: that of the virtual servers, if they have the same
    backends: Sequence[str]     # ids of those whose mailboxes are here; none: the only one with mailboxes


class Undeliverable(PopularError):
    """There is no mailbox here for a user; `code` is the exit code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def find_place(question: UserToFind, *, may_move: bool = False) -> Found:
    """Return the place of the user's mail, a mailbox of a backend that is here; raises Undeliverable.

    `may_move`: the mailbox may still move here from another backend, which is the one that is told then.
    """
    config, found = ask_configured(question)
    if may_move and found.is_moving and is_mailbox(found.mailbox):
        return found
    _prove_here(config, found, frozenset(question.backends) or _only_store(config))
    return found


def ask_configured(question: UserToFind) -> tuple[Config, Found]:
    """Return pproxy's configuration, and what its modules say about the user; raises Undeliverable."""
    try:
        config = read_ini(os.path.abspath(question.config), SCHEMA, default_config(SCHEMA))
        _become_proxy(config)
        namespace = question.namespace or _namespace(config)
        return config, _ask(config, name_asked(config, question.user, namespace), namespace)
    except (PopularError, KeyError) as why:
        if isinstance(why, Undeliverable):
            raise
        text = str(why.args[0] if isinstance(why, KeyError) else why)
        raise Undeliverable(os.EX_TEMPFAIL, "; ".join(text.splitlines())) from None


def _become_proxy(config: Config) -> None:
    """Take the rights of pproxy's user if we are root; raises StartError and KeyError."""
    user = config.variables.text("user")
    if os.geteuid() == 0 and user != "root":
        drop(find_rights(user, config.variables.optional_text("group")))


def _namespace(config: Config) -> str:
    """Return the one namespace of all virtual servers; raises Undeliverable if there are several."""
    names = list(dict.fromkeys(item.values.text("namespace") for item in config.items("vserv")))
    if len(names) > 1:
        raise Undeliverable(os.EX_TEMPFAIL, f"there are several namespaces: give -n and one of {', '.join(names)}")
    return names[0] if names else "default"


def _ask(config: Config, user: str, namespace: str) -> Found:
    """Ask the modules in order.  Raises Undeliverable, and PdmError for one that cannot be loaded, or cannot tell."""
    modules = [configured_module(item, config) for item in config.items("pdm")]
    chain = Chain(modules, config.variables.seconds("pdmtimeout"), lambda message, **fields: None)
    steps = chain.place(user, namespace)
    chain.close()
    if not steps or steps[-1].answer.outcome is Outcome.UNKNOWN:
        raise Undeliverable(os.EX_NOUSER, f"no such user in namespace {namespace}")
    answer = steps[-1].answer
    if answer.found is None:
        raise PdmError(f"database module {steps[-1].module}: {answer.why}")
    return answer.found


def _only_store(config: Config) -> frozenset[str]:
    """Return the id of the only backend with mailboxes; raises Undeliverable."""
    stores = [item.ident for item in config.items("backend") if item.values.text("protocol") in MAIL_STORES]
    if len(stores) > 1:
        raise Undeliverable(os.EX_TEMPFAIL, f"there are several backends: give -b and one of {', '.join(stores)}")
    return frozenset(stores)


def _prove_here(config: Config, found: Found, here: frozenset[str]) -> None:
    """Raise Undeliverable unless a place is a mailbox that is here."""
    if found.is_moving:
        raise Undeliverable(os.EX_TEMPFAIL, f"the mailbox still moves here from backend {found.backend}")
    backend: Item | None = next((item for item in config.items("backend") if item.ident == found.backend), None)
    if backend is None:
        raise Undeliverable(os.EX_TEMPFAIL, f"no backend {found.backend!r} is configured")
    protocol = found.protocol or backend.values.text("protocol")
    if protocol not in MAIL_STORES:
        raise Undeliverable(os.EX_UNAVAILABLE, f"the mail is on backend {found.backend}, which speaks {protocol}")
    if found.backend not in here:
        raise Undeliverable(os.EX_UNAVAILABLE, f"the mail is on backend {found.backend}, not here")
    if not is_mailbox(found.mailbox):
        raise Undeliverable(os.EX_TEMPFAIL, "the database names no mailbox")
