"""The chain: which modules are asked for a namespace, whatever the question is."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from popular.pdm.api import UNKNOWN, Answer, Found, PdmModule, Request
from popular.pdm.asking.chain import Chain
from tests.harness.pdm import make_request

QUESTIONS: dict[str, Callable[[Chain, Request], object]] = {
    "check": Chain.check,
    "check for a master": lambda chain, request: chain.check(replace(request, master="boss")),
    "find": lambda chain, request: chain.find(request.user, request.namespace),
    "place": lambda chain, request: chain.place(request.user, request.namespace),
}
NAMESPACES = pytest.mark.parametrize("namespace, names", [
    ("a.org", "every first both"), ("b.org", "every both"), ("c.org", "every"), ("", "every")])


class Silent(PdmModule):
    """A module that knows nobody, and keeps whether it was asked."""

    API = (1, 1)

    def __init__(self, ident: str, *namespaces: str) -> None:
        super().__init__(ident, [])
        self.name, self.namespaces = "silent", frozenset(namespaces)
        self.mechanisms = frozenset((ident,))
        self.was_asked = False

    def check(self, request: Request) -> Answer:
        """Answer UNKNOWN."""
        self.was_asked = True
        return UNKNOWN

    def find(self, user: str, namespace: str) -> Found | None:
        """Return None."""
        self.was_asked = True
        return None


@pytest.fixture
def modules() -> list[Silent]:
    """One module for all namespaces, one for the first, and one for two of them."""
    return [Silent("every"), Silent("first", "a.org"), Silent("both", "a.org", "b.org")]


@pytest.fixture
def chain(modules: list[Silent]) -> Chain:
    """The chain of these modules."""
    return Chain(modules, 10.0, lambda message, **fields: None)


@NAMESPACES
@pytest.mark.parametrize("question", QUESTIONS)
def test_modules_are_asked_for_their_namespaces_only(modules: list[Silent], chain: Chain, question: str,
                                                     namespace: str, names: str) -> None:
    QUESTIONS[question](chain, make_request("joe", namespace=namespace))
    assert " ".join(module.ident for module in modules if module.was_asked) == names


@NAMESPACES
def test_the_mechanisms_of_a_namespace_are_those_of_its_modules(chain: Chain, namespace: str, names: str) -> None:
    assert chain.mechanisms(namespace) == set(names.split())
