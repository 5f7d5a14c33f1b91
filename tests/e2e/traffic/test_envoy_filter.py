"""What EnvoyFilters make of traffic through sidecars: they are changed while requests flow, as by their users."""

from __future__ import annotations

from typing import Any

import pytest

from traffic.cases import Case, case, http

pytestmark = pytest.mark.root

HEADER = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: $name}
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
