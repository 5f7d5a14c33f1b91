"""Annotations, EnvoyFilters, and what objects say by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from pilotfish.analysis.analyzers import ANALYZERS
from pilotfish.analysis.messages import TYPES, path_of
from pilotfish.api.errors import FieldError


def annotated(kind: str, name: str, value: str = "x", labels: str = "") -> str:
    spec = "{containers: [{name: a, image: x}]}" if kind == "Pod" else "{ports: [{name: http, port: 80}]}"
    return f"""
apiVersion: v1
kind: {kind}
metadata: {{name: web, namespace: shop, annotations: {{{name}: "{value}"}}, labels: {{{labels}}}}}
spec: {spec}
"""


@pytest.mark.parametrize(
    ("kind", "name", "codes"),
    [
        ("Pod", "example.com/anything", []),
        ("Pod", "sidecar.istio.io/nothing", ["IST0108"]),
        ("Pod", "networking.istio.io/exportTo", ["IST0107"]),
        ("Service", "networking.istio.io/exportTo", []),
        ("Service", "sidecar.istio.io/logLevel", ["IST0107"]),
        ("Pod", "sidecar.istio.io/inject", ["IST0135"]),
        ("Pod", "sidecar.istio.io/status", []),
        ("Service", "galley.istio.io/analyze-suppress", []),
    ],
)
def test_annotations(analyse: Any, kind: str, name: str, codes: list[str]) -> None:
    found = analyse(annotated(kind, name))
    assert [one.code for one in found] == codes
    assert all(one.path == ("metadata", "annotations", name) for one in found)


def test_a_deprecated_annotation_beside_its_label_is_meant(analyse: Any) -> None:
    assert analyse(annotated("Pod", "sidecar.istio.io/inject", "true", "sidecar.istio.io/inject: 'true'")) == []


TRAFFIC = "traffic.sidecar.istio.io"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("sidecar.istio.io/interceptionMode", "TPROXY", "NOTHING"),
        ("status.sidecar.istio.io/port", "15020", "70000"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "2", "-1"),
        (f"{TRAFFIC}/includeOutboundIPRanges", "*", "10.0.0.1"),
        (f"{TRAFFIC}/excludeOutboundIPRanges", "10.0.0.0/8,fd00::/8", "*"),
        (f"{TRAFFIC}/includeInboundPorts", "*", "http"),
        (f"{TRAFFIC}/excludeInboundPorts", "80, 81", "*"),
        (f"{TRAFFIC}/excludeOutboundPorts", "", "80,"),
        (f"{TRAFFIC}/excludeInterfaces", "eth0,eth1", "a name"),
        ("prometheus.istio.io/merge-metrics", "true", "yes"),
        ("proxy.istio.io/config", "concurrency: 2", "concurency: 2"),
        ("sidecar.istio.io/proxyCPU", "500m", "half"),
        ("sidecar.istio.io/proxyMemoryLimit", "128Mi", "128MiB"),
    ],
)
def test_values_of_annotations(analyse: Any, name: str, good: str, bad: str) -> None:
    assert analyse(annotated("Pod", name, good)) == []
    [found] = analyse(annotated("Pod", name, bad))
    assert (found.code, found.arguments[0]) == ("IST0125", name)


def envoy_filter(apply_to: str, operation: str, more: str = "", match: str = "{}", name: str = "f") -> str:
    return f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: {name}, namespace: shop}}
spec:
  configPatches: [{{applyTo: {apply_to}, match: {match}, patch: {{operation: {operation}, value: {{name: lua}}}}}}]
  {more}
"""


@pytest.mark.parametrize(
    ("apply_to", "operation", "more", "codes"),
    [
        ("HTTP_FILTER", "INSERT_FIRST", "", []),
        ("HTTP_FILTER", "INSERT_BEFORE", "", ["IST0151"]),
        ("HTTP_FILTER", "INSERT_BEFORE", "priority: 10", []),
        ("HTTP_FILTER", "REPLACE", "priority: 10", []),
        ("CLUSTER", "REPLACE", "", ["IST0152"]),
        ("HTTP_ROUTE", "ADD", "", ["IST0153"]),
        ("ROUTE_CONFIGURATION", "REMOVE", "", ["IST0154"]),
        ("CLUSTER", "REMOVE", "", ["IST0151"]),
        ("CLUSTER", "ADD", "", []),
    ],
)
def test_operations_of_envoy_filters(analyse: Any, apply_to: str, operation: str, more: str, codes: list[str]) -> None:
    found = analyse(envoy_filter(apply_to, operation, more))
    assert [one.code for one in found if "IST015" in one.code] == codes


def test_a_patch_that_counts_on_one_for_a_version(analyse: Any) -> None:
    versioned = envoy_filter("HTTP_FILTER", "INSERT_FIRST", match="{proxy: {proxyVersion: '^1\\.30.*'}}", name="a")
    found = analyse(versioned, envoy_filter("HTTP_FILTER", "INSERT_AFTER", name="b"))
    [relative] = [one for one in found if one.code != "IST0133"]
    assert (relative.code, relative.origin) == ("IST0155", "EnvoyFilter shop/b")
    assert relative.path == ("spec", "configPatches", 0, "patch", "value")


def test_what_is_not_valid(analyse: Any) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec: {hosts: ["a b"], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
"""
    [found] = analyse(text)
    assert (found.code, found.path) == ("IST0106", ("spec", "hosts", 0))


def test_what_is_probably_not_meant(analyse: Any, shop: str) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{match: [{gateways: [a.b]}], route: [{destination: {host: web}}]}]}
"""
    [found] = analyse(shop, text)
    assert found.code == "IST0133"


def test_deprecated_fields(analyse: Any, shop: str) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http: [{fault: {delay: {percent: 50, fixedDelay: 1s}}, route: [{destination: {host: web}}]}]
"""
    [found] = analyse(shop, text, code="IST0002")
    assert found.path == ("spec", "http", 0, "fault", "delay", "percent")


def test_conditions_that_say_no(analyse: Any) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec: {hosts: [a.b], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
status: {conditions: [{type: pilotfish.dev/Accepted, status: "STATUS", reason: Refused, message: no such thing}]}
"""
    [found] = analyse(text.replace("STATUS", "False"))
    assert (found.code, found.arguments) == ("IST0171", ("pilotfish.dev/Accepted", "Refused", "no such thing"))
    assert analyse(text.replace("STATUS", "True")) == []
    unserved = text.replace("STATUS", "False").replace("Accepted", "Served")
    assert [found.arguments[0] for found in analyse(unserved)] == ["pilotfish.dev/Served"]


def test_every_message_has_a_place_for_its_arguments() -> None:
    for kind in TYPES.values():
        places = kind.template.count("{")
        assert kind.template.format(*"abcde"[:places]), kind.name
        assert kind.documentation.endswith(f"/{kind.code.lower()}/")
    assert len({one.name for one in ANALYZERS}) == len(ANALYZERS)


def test_paths_of_field_errors() -> None:
    assert path_of(FieldError("spec.ports[0].protocol", "")) == ("spec", "ports", 0, "protocol")
    assert path_of(FieldError("metadata.annotations[a.b/c]", "")) == ("metadata", "annotations", "a.b/c")
    assert path_of(FieldError("", "")) == ()
