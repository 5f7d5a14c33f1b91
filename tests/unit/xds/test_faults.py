"""EnvoyFilters that have no effect: told while they have none, and no longer."""

from __future__ import annotations

from typing import Any

import pytest

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import ObjectKey
from pilotfish.xds import source
from pilotfish.xds.faults import Unapplied
from pilotfish.xds.generator import Generator
from pilotfish.xds.source import ProxyNode

NODE = ProxyNode("sidecar~10.0.0.9~web.ns~x", "sidecar", "10.0.0.9", "web", "ns")
KEY = ObjectKey("EnvoyFilter", "ns", "f")
TYPE = "type.googleapis.com/envoy.extensions.filters"
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}
BUFFER = {"typed_config": {"@type": f"{TYPE}.http.buffer.v3.Buffer", "max_request_bytes": 5}}
MATCH = {
    "listener": {
        "filterChain": {
            "filter": {
                "name": "envoy.filters.network.http_connection_manager",
                "subFilter": {"name": "envoy.filters.http.router"},
            }
        }
    }
}


def envoy_filter(apply_to: str, operation: str, value: Any, match: Any = None) -> Any:
    patch = {"applyTo": apply_to, "match": match or {}, "patch": {"operation": operation, "value": value}}
    return decode(
        kinds.ENVOY_FILTER, {"metadata": {"name": "f", "namespace": "ns"}, "spec": {"configPatches": [patch]}}
    )


class Mesh:
    """A proxy that is served everything, and what was told of EnvoyFilters."""

    def __init__(self) -> None:
        self.generator = Generator(Model())
        self.told: list[tuple[ObjectKey, str | None]] = []
        self._unapplied = Unapplied(
            self.generator.model.envoy_filters, lambda key, words: self.told.append((key, words))
        )
        self._config = self.generator.connect(NODE, lambda changes: None)
        self._had: Any = None

    def apply(self, obj: Any) -> None:
        self.generator.apply([(self._had, obj)])
        self._had = obj
        for url in (source.LISTENER, source.CLUSTER):
            for resource in self._config.resources(url).values():
                assert resource.body
        self._unapplied.look()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            envoy_filter("HTTP_FILTER", "MERGE", BUFFER, MATCH),
            "envoy.extensions.filters.http.buffer.v3.Buffer cannot be merged into"
            " envoy.extensions.filters.http.router.v3.Router",
        ),
        (envoy_filter("CLUSTER", "MERGE", {"connect_timeout": "never"}), "a CLUSTER cannot be read"),
        (envoy_filter("CLUSTER", "ADD", {"name": "x", "connect_timeout": "never"}), "a CLUSTER cannot be read"),
    ],
)
def test_a_patch_without_effect_is_told_until_it_is_another(wrong: Any, words: str) -> None:
    mesh = Mesh()
    mesh.apply(wrong)
    [(key, said)] = mesh.told
    assert key == KEY and said is not None and said.startswith(words)
    mesh.apply(wrong)
    assert len(mesh.told) == 1, "the same is told once"
    mesh.apply(envoy_filter("HTTP_FILTER", "MERGE", ROUTER, MATCH))
    assert mesh.told[1:] == [(KEY, None)]


def test_it_is_told_no_more_when_the_filter_is_gone() -> None:
    mesh = Mesh()
    mesh.apply(envoy_filter("HTTP_FILTER", "MERGE", BUFFER, MATCH))
    mesh.apply(None)
    assert mesh.told[1:] == [(KEY, None)]
