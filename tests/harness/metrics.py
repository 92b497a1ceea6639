"""Reading metrics as a Prometheus does: over HTTP, with the parser of its own client library."""

import http.client
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from popular.addresses import Endpoint
from popular.daemon.spec import METRICS
from tests.harness.daemon import Daemon
from tests.harness.needs import lacking, need_program

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    text_string_to_metric_families = None    # type: ignore[assignment]

Labels = frozenset[tuple[str, str]]


@dataclass(slots=True)
class Metrics:
    """The metrics of one text."""

    text: str
    kinds: dict[str, str] = field(default_factory=dict)                    # by name, as in the text
    values: dict[tuple[str, Labels], float] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Metrics":
        """Parse a text; a sample that stands twice is a mistake, and so is a metric in two places."""
        if text_string_to_metric_families is None:
            lacking("prometheus_client")
        found = cls(text)
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert family.documentation and name not in found.kinds, name
            found.kinds[name] = family.type
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert sample.name == name and key not in found.values, key
                found.values[key] = sample.value
        return found

    def get(self, name: str, **labels: str) -> float:
        """Return one value; KeyError when it is not there."""
        return self.values[f"popular_{name}", frozenset(labels.items())]

    def by(self, name: str, label: str) -> Mapping[str, float]:
        """Return the values of a metric by one of its labels."""
        return {dict(labels)[label]: value for (known, labels), value in self.values.items()
                if known == f"popular_{name}"}


def where(daemon: Daemon) -> Endpoint:
    """Return where a daemon serves metrics since its start."""
    return daemon.endpoint(METRICS)


def get(endpoint: Endpoint, path: str = "/metrics", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Ask for a page; returns status, headers and body."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=15.0)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def scrape(endpoint: Endpoint) -> Metrics:
    """Return the metrics that are served at `endpoint`."""
    status, _, body = get(endpoint)
    assert status == 200
    return Metrics.read(body.decode())


def promtool(*words: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    """Run Prometheus's own tool."""
    return subprocess.run([need_program("promtool"), *words], input=text, text=True, capture_output=True, timeout=50,
                          check=False)
