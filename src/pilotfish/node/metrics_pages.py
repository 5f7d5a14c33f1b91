"""The ports at which a proxy shows that it is ready, and its metrics, with those of the application among them.

Istio's agent merges metrics in a process of its own. Here a script does, in the proxy: it asks the application when it
is itself asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.node.statistics import METRIC_PREFIX

_TYPES = "type.googleapis.com/envoy."
_COMPRESSORS = ("brotli", "zstd", "gzip")

SCRAPE_SECONDS = 10
"""How long the application's metrics are waited for: as long as Prometheus waits for the whole page by default."""

_PATH = "/stats/prometheus"
_SCRIPT = "pilotfish.metrics"
"""The namespace of dynamic metadata in which the script keeps what it got of the application."""

READY = {"match": {"path": "/healthz/ready"}, "route": {"cluster": "agent", "prefix_rewrite": "/ready"}}
METRICS = {
    "match": {"prefix": _PATH},
    "route": {"cluster": "agent"},
    # Envoy would answer in Prometheus' binary form where that is asked for: the script edits lines of text.
    "request_headers_to_remove": ["accept"],
}


@dataclass(frozen=True)
class ScrapeTarget:
    """Where the application shows metrics of its own: a port of 127.0.0.1, and a path."""

    port: int
    path: str


def scrape_targets(text: str) -> tuple[ScrapeTarget, ...]:
    """What the variable ISTIO_PROMETHEUS_ANNOTATIONS says, which injection makes of a pod's annotations
    `prometheus.io/…` (Istio: PrometheusScrapeConfiguration). Raises ValueError for what cannot be read.
    """
    said = json.loads(text) if text else {}
    if not said or said.get("scrape") == "false":
        return ()
    listed = said.get("targets") or [{"port": said.get("port"), "path": said.get("path")}]
    return tuple(ScrapeTarget(int(each.get("port") or 80), each.get("path") or "/metrics") for each in listed)


def clusters(targets: Sequence[ScrapeTarget]) -> list[dict[str, Any]]:
    """A cluster for each port of the application that is asked for metrics."""
    return [_cluster(port) for port in dict.fromkeys(target.port for target in targets)]


def page(
    address: str,
    port: int,
    stat_prefix: str,
    routes: Sequence[dict[str, Any]],
    *,
    targets: Sequence[ScrapeTarget] = (),
    compressed: bool = False,
) -> dict[str, Any]:
    """A listener for these routes; `targets` are asked for metrics to go with the proxy's own."""
    shows_metrics = METRICS in routes
    manager = {
        "@type": _TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat_prefix,
        "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": list(routes)}]},
        "http_filters": [
            *(map(_compressor, _COMPRESSORS) if shows_metrics and compressed else ()),
            *([_script(targets)] if shows_metrics else ()),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPES + "extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    filter_ = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": f"{address}_{port}",
        "address": {"socket_address": {"address": address, "port_value": port}},
        # Health and metrics stay reachable when the proxy is at its limits.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [filter_]}],
    }


def _name(port: int) -> str:
    return f"application-metrics-{port}"


def _cluster(port: int) -> dict[str, Any]:
    name = _name(port)
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    return {
        "name": name,
        "alt_stat_name": f"{name};",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }


_SHOW = f"""
function envoy_on_response(response)
  local told = response:streamInfo():dynamicMetadata():get("{_SCRIPT}") or {{}}
  local head, rest = told["application"] or "", ""
  response:headers():remove("content-length")
  for chunk in response:bodyChunks() do
    local text = rest .. chunk:getBytes(0, chunk:length())
    local complete = text:match("^.*\\n") or ""
    rest = text:sub(#complete + 1)
    chunk:setBytes(head .. complete:gsub("envoy_{METRIC_PREFIX}", "{METRIC_PREFIX}"))
    head = ""
  end
end
"""
"""Envoy puts "envoy_" before the name of every metric, line by line; Istio's are known without it. Envoy's page ends
with a newline, so nothing is left over. The application's metrics go first.
"""

_ASK = """
local targets = {%s}

function envoy_on_request(request)
  if request:headers():get(":path"):sub(1, %d) ~= "%s" then
    return
  end
  local found = ""
  for _, target in ipairs(targets) do
    local headers, body = request:httpCall(target.cluster, {
      [":method"] = "GET",
      [":path"] = target.path,
      [":authority"] = target.authority,
      ["accept"] = "text/plain;version=0.0.4",
    }, nil, %d)
    if headers and headers[":status"] == "200" and body then
      body = body:gsub("# EOF%%s*$", "")
      found = found .. body .. (body:sub(-1) == "\\n" and "" or "\\n")
    else
      request:logWarn("no metrics of the application at " .. target.authority .. target.path)
    end
  end
  request:streamInfo():dynamicMetadata():set("%s", "application", found)
end
"""
"""An application that cannot be asked takes nothing away from the proxy's own metrics (Istio)."""


def _script(targets: Sequence[ScrapeTarget]) -> dict[str, Any]:
    script = _SHOW
    if targets:
        listed = ", ".join(
            f"{{cluster = {_quoted(_name(target.port))}, path = {_quoted(target.path)},"
            f" authority = {_quoted(f'127.0.0.1:{target.port}')}}}"
            for target in targets
        )
        script += _ASK % (listed, len(_PATH), _PATH, SCRAPE_SECONDS * 1000, _SCRIPT)
    config = {
        "@type": _TYPES + "extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": script},
    }
    return {"name": "envoy.filters.http.lua", "typed_config": config}


def _quoted(text: str) -> str:
    """A text of Lua: bytes that are not plain letters are written by their numbers."""
    plain = "".join(chr(b) if chr(b).isalnum() or b in b"/_-.:?=&," else f"\\{b:03d}" for b in text.encode())
    return f'"{plain}"'


def _compressor(name: str) -> dict[str, Any]:
    library = {
        "name": f"stats_{name}",
        "typed_config": {"@type": f"{_TYPES}extensions.compression.{name}.compressor.v3.{name.capitalize()}"},
    }
    config = {
        "@type": _TYPES + "extensions.filters.http.compressor.v3.Compressor",
        "compressor_library": library,
    }
    return {"name": f"envoy.filters.http.compressor.{name}", "typed_config": config}
