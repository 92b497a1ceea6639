"""What the process that screens clients has to know of a configuration; made by the master for each new process."""

from collections.abc import Callable, Container

from popular.addresses import Endpoint
from popular.log.writer import Log
from popular.names import clean_line
from popular.pop3.exchange import MAX_SASL_LINE
from popular.pproxy.limits.clients import AreTooMany, ClientCounts, keys_counted
from popular.pproxy.objects import ProxyConfig
from popular.pproxy.screen.keeper import Reports
from popular.pproxy.screen.process import ClientScreen, Keys, Terms
from popular.statefile.layout import CountedBy


def screen_terms(config: ProxyConfig, clients: ClientCounts, mute: Container[str], reports: Reports, log: Log,
                 objection: Callable[[str, Endpoint, AreTooMany], str]) -> Terms:
    """Return how clients are screened; `objection` says why one is refused, and logs that."""
    vservs = config.vservs
    headers = {ident: vserv.proxies for ident, vserv in vservs.items() if vserv.proxies and vserv.proxies.has_header}
    maxline = max([config.maxline, *(MAX_SASL_LINE for vserv in vservs.values() if vserv.offer),
                   *(vserv.proxies.maxline for vserv in vservs.values() if vserv.proxies)])

    def admit(owner: str, peer: Endpoint, screen: ClientScreen) -> Keys | None:
        def are_too_many(by: CountedBy, key: int, most: int) -> bool:
            return 0 < most <= screen.slot.sessions_with(by, key) + screen.held_by(by, key)

        why = objection(owner, peer, are_too_many)
        if why:
            reports.count(f"client_{why}")
            return None
        return keys_counted(vservs[owner].limits, peer.host)

    def greeting(owner: str, peer: Endpoint) -> bytes | None:
        vserv = vservs.get(owner)
        if vserv is None:
            return None
        banner = vserv.banner_for(knows_xclient=vserv.knows_xclient(peer))
        return b"" if owner in mute else clean_line(f"+OK {banner}".encode()).encode() + b"\r\n"

    def refuse(owner: str, peer: Endpoint, why: str) -> None:
        headers[owner].refuse(peer, why, log, reports.count)

    return Terms(greeting, maxline, config.authtimeout or config.idletimeout, admit, clients.has_stalled,
                 reports.count, reports.want_room, reports.flush, headers, refuse)
