"""Envoy's statistics in a proxy's bootstrap: which are kept, what their labels are, and where they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotfish.api.proxyconfig import METRICS_SERVICE, ProxyConfig

METRIC_PREFIX = "istio_"
"""Of the metrics that the mesh defines, and not Envoy."""

_TYPES = "type.googleapis.com/envoy."
_REPORTED = (
    *("cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "reporter=", "component"),
    METRIC_PREFIX,
)
"""Prefixes of the statistics that are kept (Istio's default): the rest costs memory for each host of the mesh."""

_REPORTED_SUFFIXES = ("rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "downstream_cx_active")

COUNTED = ("upstream_rq_active", "upstream_rq_total")
"""Of each cluster: the requests and connections in progress, and all that were begun."""

_TAGS = {
    "cluster_name": r"^cluster(\.(.+);)",
    "http_conn_manager_prefix": r"^http\.(((outbound|inbound)_[^;]*;)\.)",
    "tcp_prefix": r"^tcp\.((.*?)\.)\w+?$",
    "response_code": r"_rq(_(\d{3}))$",
    "response_code_class": r"_rq(_(\dxx))$",
    "listener_address": r"^listener\.((\[?[\da-fA-F_.:]+\]?)\.)",
}


@dataclass(frozen=True)
class Statistics:
    """Statistics to keep besides those that every proxy keeps, by their names, and labels to read out of names (Istio:
    proxyStatsMatcher, extraStatTags). `statsd` is an address "<IP>:<port>", or "". `use`: count what goes to each
    cluster (COUNTED), for `pilotfish.node.usage`.
    """

    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    regexps: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    statsd: str = ""
    use: bool = False


def statistics(config: ProxyConfig, annotations: Mapping[str, str]) -> Statistics:
    """What a proxy's configuration asks for; which to keep, its pod's annotations say in its place."""
    matcher = config.proxy_stats_matcher

    tags = (*config.extra_stat_tags, *_listed(annotations.get("sidecar.istio.io/extraStatTags", "")))

    def chosen(what: str, of_config: tuple[str, ...]) -> tuple[str, ...]:
        return _listed(annotations.get(f"sidecar.istio.io/statsInclusion{what}", "")) or of_config

    return Statistics(
        chosen("Prefixes", matcher.inclusion_prefixes if matcher else ()),
        chosen("Suffixes", matcher.inclusion_suffixes if matcher else ()),
        chosen("Regexps", matcher.inclusion_regexps if matcher else ()),
        tuple(dict.fromkeys(tags)),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def stats_config(more: Statistics) -> dict[str, Any]:
    """The bootstrap's `stats_config`."""
    patterns: list[dict[str, Any]] = [{"prefix": prefix} for prefix in (*_REPORTED, *more.prefixes)]
    suffixes = (*_REPORTED_SUFFIXES, *(COUNTED if more.use else ()), *more.suffixes)
    patterns += [{"suffix": suffix} for suffix in suffixes]
    patterns += [{"safe_regex": {"regex": regexp}} for regexp in (r"vhost\..*\.route\..*", *more.regexps)]
    tags = {**_TAGS, **{tag: rf"({tag}=\.=(.*?);\.;)" for tag in more.tags}}
    return {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in tags.items()],
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
    }


def sinks(config: ProxyConfig, statsd: str) -> list[dict[str, Any]]:
    """The bootstrap's `stats_sinks`: Envoy's metrics service, and StatsD."""
    found = []
    if config.envoy_metrics_service is not None and config.envoy_metrics_service.address:
        service = {
            "@type": _TYPES + "config.metrics.v3.MetricsServiceConfig",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": METRICS_SERVICE}},
        }
        found.append({"name": "envoy.stat_sinks.metrics_service", "typed_config": service})
    if statsd:
        host, _, port = statsd.rpartition(":")
        address = {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
        sink = {"@type": _TYPES + "config.metrics.v3.StatsdSink", "address": address}
        found.append({"name": "envoy.stat_sinks.statsd", "typed_config": sink})
    return found
