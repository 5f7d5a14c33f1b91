"""What EnvoyFilters make of traffic through sidecars: they are changed while requests flow, as by their users."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from traffic.cases import Case, case, http, substituted
from traffic.site import wait_until

pytestmark = pytest.mark.root

HEADER = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: $name, namespace: traffic}
spec:
  configPatches:
"""
LUA = """
    patch:
      operation: INSERT_BEFORE
      value:
        name: lua
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_response(handle)
                handle:headers():add("x-lua-$name", "yes")
              end
"""
ROUTER = """
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
"""

CASES = [
    case(
        "a Lua filter of servers",
        HEADER
        + """
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener:
"""
        + ROUTER.lstrip("\n")
        + LUA.lstrip("\n"),
        http("http://$host/", answers={"headers": {"x-lua-$name": "yes"}}),
    ),
    case(
        "a route of clients",
        HEADER
        + """
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: "$host:80"}}}
    patch:
      operation: MERGE
      value: {response_headers_to_add: [{header: {key: x-of-$name, value: "yes"}}]}
""",
        http("http://$host/", answers={"headers": {"x-of-$name": "yes"}}),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_envoy_filters(case: Case, site: Any) -> None:
    site.check(case)


BALANCER = (
    HEADER
    + """
  - applyTo: CLUSTER
    match: {cluster: {service: $host, portNumber: 80}}
    patch: {operation: MERGE, value: {lb_policy: POLICY}}
"""
)


def complaint(mesh: Any, name: str, condition: str) -> str:
    """What an EnvoyFilter's condition says is wrong; "" where there is none."""
    status = mesh.get("envoyfilter", name, "-n", "traffic").get("status", {})
    found = {one["type"]: one for one in status.get("conditions", ())}.get(f"pilotfish.dev/{condition}", {})
    return str(found.get("message", "")) if found.get("status") == "False" else ""


MISFIT = (
    HEADER
    + """
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener:
"""
    + ROUTER.lstrip("\n")
    + """
    patch:
      operation: MERGE
      value:
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
          max_request_bytes: 5
"""
)


def test_a_filter_that_changes_nothing_says_so(site: Any) -> None:
    with site.applied(MISFIT) as names:
        said = "Buffer cannot be merged into envoy.extensions.filters.http.router.v3.Router"
        wait_until(lambda: said in complaint(site.mesh, names["name"], "Applied"), "the EnvoyFilter has no effect")
        site.settle(substituted(http("http://$host/"), names), "the Service")


def test_what_proxies_refuse_is_the_filters_fault_and_changes_nothing(site: Any) -> None:
    def refusal() -> str:
        return complaint(site.mesh, names["name"], "Accepted")

    with site.applied("") as names:
        request = substituted(http("http://$host/"), names)
        site.settle(request, "the Service")
        wrong, right = (
            yaml.safe_load(substituted(BALANCER.replace("POLICY", policy), names))
            for policy in ("CLUSTER_PROVIDED", "RANDOM")
        )
        try:
            site.create([wrong])
            wait_until(lambda: "cluster provided LB" in refusal(), "the EnvoyFilter says what proxies refuse of it")
            assert f"outbound|80||{names['host']}" in refusal()
            site.hold(request)
            late = site.mesh.pilotfish(
                "x", "wait", "envoyfilter", f"{names['name']}.traffic", "--timeout=100ms", check=False
            )
            assert "became effective on all proxies" in late and "cluster provided LB" in late
            site.mesh.apply(yaml.safe_dump(right))
            site.mesh.pilotfish("x", "wait", "envoyfilter", f"{names['name']}.traffic")
            wait_until(lambda: not refusal(), "nobody refuses it any more")
            site.hold(request)
        finally:
            site.delete([wrong])
