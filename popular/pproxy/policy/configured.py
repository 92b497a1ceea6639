"""Which virtual servers ask which policy server, and whether they could (starter and master; lean)."""

from collections.abc import Mapping

from popular.config.mistakes import Mistake
from popular.config.setting import place, quoted
from popular.config.store import Config
from popular.pproxy.objects import layered
from popular.pproxy.policy.terms import PolicyTerms, policy_of


def policies_of(config: Config) -> Mapping[str, PolicyTerms]:
    """Return the terms of each virtual server that asks a policy server."""
    found = {item.ident: policy_of(layered(item.values, config)) for item in config.items("vserv")}
    return {ident: terms for ident, terms in found.items() if terms is not None}


def policy_mistakes(config: Config) -> list[Mistake]:
    """Return what is missing in the settings."""
    lacking = [terms.url for terms in policies_of(config).values() if not terms.noncefile]
    return [Mistake(place("pproxy", "policynoncefile"), f"is needed for the policyurl {quoted(lacking[0])}")
            ] if lacking else []
