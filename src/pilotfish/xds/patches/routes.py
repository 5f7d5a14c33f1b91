"""Patches of route configurations (Istio: pilot/pkg/networking/core/envoyfilter/rc_patch.go)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from pilotfish.api.networking.envoy_filter import RouteConfigurationMatch, VirtualHostMatch
from pilotfish.mesh.envoy_filters import Patch
from pilotfish.xds.patches.lists import put_in_place
from pilotfish.xds.patches.values import merge, value_of

_ACTIONS = {"route": "ROUTE", "redirect": "REDIRECT", "direct_response": "DIRECT_RESPONSE"}
Ports = Mapping[int, Collection[int]]
"""A gateway's own ports → the ports of its servers that are reached there."""


def means_routes(match: RouteConfigurationMatch | None, name: str, ports: Ports | None) -> bool:
    """Whether a match means the route configuration of this name; `ports` are a gateway's, None for a sidecar."""
    if match is None:
        return True
    if match.name not in ("", name):
        return False
    if ports is None:
        number = name.split("|")[1] if name.startswith("inbound|") else name
        return match.port_number in (0, int(number) if number.isdecimal() else 0)
    # "http.80", and with TLS "https.443.<port's name>.<gateway>.<namespace>"
    parts = name.split(".")
    port = int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else 0
    port_name, gateway = (parts[2], f"{parts[4]}/{parts[3]}") if len(parts) == 5 else ("", "")
    return (
        match.port_name in ("", port_name)
        and match.gateway in ("", gateway)
        and (not match.port_number or match.port_number in ports.get(port, (port,)))
    )


def patch_routes(configuration: Any, patches: Collection[Patch]) -> None:
    """Apply all patches of route configurations, virtual hosts and routes; they all mean this configuration."""
    for patch in patches:
        if patch.apply_to == "ROUTE_CONFIGURATION" and patch.merges:
            merge(configuration, patch)
    of_hosts = [patch for patch in patches if patch.apply_to == "VIRTUAL_HOST"]
    of_routes = [patch for patch in patches if patch.apply_to == "HTTP_ROUTE"]
    removed = {host.name for host in configuration.virtual_hosts if _patch_host(host, of_hosts, of_routes)}
    for patch in of_hosts:
        if patch.operation == "ADD":
            put_in_place(configuration.virtual_hosts, patch, None)
    if removed:
        kept = [host for host in configuration.virtual_hosts if host.name not in removed]
        del configuration.virtual_hosts[:]
        configuration.virtual_hosts.extend(kept)


def _patch_host(host: Any, of_hosts: list[Patch], of_routes: list[Patch]) -> bool:
    """Gives whether the virtual host is to be removed."""
    for patch in of_hosts:
        if not _means_host(_host_match(patch), host):
            continue
        if patch.operation == "REMOVE":
            return True
        if patch.merges:
            merge(host, patch)
        elif patch.operation == "REPLACE" and (value := value_of(patch)) is not None:
            host.CopyFrom(value)
    _patch_routes_of(host, of_routes)
    return False


def _patch_routes_of(host: Any, patches: list[Patch]) -> None:
    kept = [route for route in host.routes if not _patch_route(route, host, patches)]
    if len(kept) < len(host.routes):
        del host.routes[:]
        host.routes.extend(kept)
    for patch in patches:
        match = _host_match(patch)
        if patch.operation in ("REMOVE", "REPLACE") or not _means_host(match, host):
            continue
        if match is None or match.route is None:
            put_in_place(host.routes, patch, None)
        elif patch.operation != "INSERT_FIRST" or any(_means_route(match, route) for route in host.routes):
            put_in_place(host.routes, patch, partial(_means_route, match))


def _patch_route(route: Any, host: Any, patches: list[Patch]) -> bool:
    """Gives whether the route is to be removed."""
    for patch in patches:
        match = _host_match(patch)
        if _means_host(match, host) and _means_route(match, route):
            if patch.operation == "REMOVE":
                return True
            if patch.merges:
                merge(route, patch)
    return False


def _host_match(patch: Patch) -> VirtualHostMatch | None:
    return patch.routes.vhost if patch.routes is not None else None


def _means_host(match: VirtualHostMatch | None, host: Any) -> bool:
    if match is None:
        return True
    return match.name in ("", host.name) and (not match.domain_name or match.domain_name in host.domains)


def _means_route(match: VirtualHostMatch | None, route: Any) -> bool:
    if match is None or match.route is None:
        return True
    wanted = match.route
    if wanted.name not in ("", route.name):
        return False
    action = _ACTIONS.get(route.WhichOneof("action") or "")
    return wanted.action == "ANY" or action is None or action == wanted.action
