"""`proxy-config listeners` (istioctl/pkg/writer/envoy/configdump: listener.go)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from pilotfish.cli.proxyconfig.dump import Message, address_of, port_of
from pilotfish.cli.proxyconfig.routes import match_text
from pilotfish.cli.tables import Row

HTTP = "envoy.filters.network.http_connection_manager"
TCP = "envoy.filters.network.tcp_proxy"
BLACK_HOLE = "BlackHoleCluster"
PADDING = 1
"""Spaces between columns; other tables have more."""

_PROTOCOLS = {
    ("http/1.0", "http/1.1", "h2c"): "App: HTTP",
    ("istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: Istio HTTP Plain",
    ("http/1.0", "http/1.1", "h2c", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: HTTP TLS",
    ("istio-peer-exchange", "istio"): "App: TCP TLS",
}
"""Istio's words for the lists of application protocols that it matches."""


@dataclass(frozen=True)
class ListenerFilter:
    address: str = ""
    port: int = 0
    type: str = ""

    def matches(self, listener: Message) -> bool:
        return (
            (not self.address or self.address.lower() in map(str.lower, addresses(listener)))
            and self.port in (0, port_of(listener.get("address", {})))
            and self.type.upper() in ("", listener_type(listener))
        )


def select(listeners: Iterable[Message], wanted: ListenerFilter) -> list[Message]:
    """Those that match, ordered by port, address and type."""

    def order(listener: Message) -> tuple[int, str, str]:
        address = listener.get("address", {})
        return port_of(address), address_of(address), listener_type(listener)

    return sorted(filter(wanted.matches, listeners), key=order)


def table(listeners: Iterable[Message], *, verbose: bool = True, named: bool = False) -> list[Row]:
    """One row for each filter chain, or for each listener. `named`: with the kind of configuration and its name."""
    header = ["ADDRESSES", "PORT", *(["MATCH", "DESTINATION"] if verbose else ["TYPE"])]
    rows = [["NAME", *header] if named else header]
    for listener in listeners:
        common = [",".join(addresses(listener)), str(port_of(listener.get("address", {})))]
        if named:
            common.insert(0, f"listener/{listener.get('name', '')}")
        if not verbose:
            rows.append([*common, listener_type(listener)])
            continue
        chains = [(match_of(chain), destination_of(chain.get("filters", ()))) for chain in filter_chains(listener)]
        rows += [[*common, *chain] for chain in sorted(chains, key=lambda chain: chain[1], reverse=True)]
    return rows


def addresses(listener: Message) -> list[str]:
    """Its own address and additional ones."""
    additional = (more.get("address", {}) for more in listener.get("additional_addresses", ()))
    return [address_of(address) for address in (listener.get("address", {}), *additional)]


def filter_chains(listener: Message) -> list[Message]:
    """All of them, the default one last."""
    default = listener.get("default_filter_chain")
    return [*listener.get("filter_chains", ()), *([default] if default is not None else ())]


def listener_type(listener: Message) -> str:
    """HTTP, TCP, HTTP+TCP or UNKNOWN, by the network filters of its chains."""
    filters = [one for chain in filter_chains(listener) for one in chain.get("filters", ())]
    http = any(one.get("name") == HTTP for one in filters)
    tcp = any(one.get("name") == TCP and not _refuses(one) for one in filters)
    return "+".join([*(["HTTP"] if http else ()), *(["TCP"] if tcp else ())]) or "UNKNOWN"


def _refuses(network_filter: Message) -> bool:
    """Whether a TCP proxy leads to nobody."""
    return BLACK_HOLE.encode() in msgspec.json.encode(network_filter.get("typed_config", {}))


def match_of(chain: Message) -> str:
    """What a filter chain matches, as istioctl says it."""
    match = chain.get("filter_chain_match") or {}
    parts = []
    if names := match.get("server_names"):
        parts.append(f"SNI: {','.join(names)}")
    if transport := match.get("transport_protocol"):
        parts.append(f"Trans: {transport}")
    if protocols := match.get("application_protocols"):
        parts.append(_PROTOCOLS.get(tuple(protocols), f"App: {','.join(protocols)}"))
    port = f":{match['destination_port']}" if "destination_port" in match else ""
    if ranges := match.get("prefix_ranges"):
        texts = (f"{one.get('address_prefix', '')}/{one.get('prefix_len', 0)}" for one in ranges)
        parts.append(f"Addr: {','.join(texts)}{port}")
    elif port:
        parts.append(f"Addr: *{port}")
    return "; ".join(parts) or "ALL"


def destination_of(filters: Sequence[Message]) -> str:
    """Where a filter chain sends what it matches."""
    for one in filters:
        config = one.get("typed_config", {})
        if one.get("name") == HTTP:
            if "route_config" in config:
                return _inline(config["route_config"])
            name = config.get("rds", {}).get("route_config_name")
            return f"Route: {name}" if name else "HTTP"
        if one.get("name") == TCP and not _refuses(one):
            return _cluster(config.get("cluster", ""))
    return "Non-HTTP/Non-TCP"


def _cluster(name: str) -> str:
    return name if "Cluster" in name else f"Cluster: {name}"


def _inline(config: Message) -> str:
    """The one cluster that a route configuration leads to, or its domains and matches."""
    hosts = config.get("virtual_hosts", ())
    if cluster := _only_cluster(hosts):
        return _cluster(cluster)
    return f"Inline Route: {'; '.join(map(_host_text, hosts))}"


def _only_cluster(hosts: Sequence[Message]) -> str:
    if len(hosts) != 1 or hosts[0].get("domains") != ["*"] or len(hosts[0].get("routes", ())) != 1:
        return ""
    [route] = hosts[0]["routes"]
    return str(route.get("route", {}).get("cluster", "")) if route.get("match", {}).get("prefix") == "/" else ""


def _host_text(host: Message) -> str:
    domains = host.get("domains", ())
    routes = ", ".join(match_text(route.get("match", {})) for route in host.get("routes", ()))
    return routes if list(domains) == ["*"] else f"{'/'.join(domains)} {routes}"
