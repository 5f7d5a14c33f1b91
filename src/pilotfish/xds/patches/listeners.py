"""Patches of listeners (Istio: pilot/pkg/networking/core/envoyfilter/listener_patch.go)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from pilotfish.api.networking.envoy_filter import FilterChainMatch, FilterMatch
from pilotfish.mesh.envoy_filters import Patch
from pilotfish.xds.build import names
from pilotfish.xds.build.common import any_of
from pilotfish.xds.patches.filter_order import place_of
from pilotfish.xds.patches.lists import put_in_place
from pilotfish.xds.patches.routes import Ports, means_routes, patch_routes
from pilotfish.xds.patches.values import merge, merge_extension, merge_packed, value_of

_HTTP = "envoy.filters.network.http_connection_manager"
_ROUTES = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_VIRTUAL = (names.VIRTUAL_INBOUND, names.VIRTUAL_OUTBOUND)
_Meant = Callable[[Any], bool]


def patch_listener(listener: Any, patches: Collection[Patch], ports: Ports | None = None) -> bool:
    """Apply patches of listeners, of all that is inside of them, and of the routes that are; gives whether the listener
    is to be there afterwards. `ports` are a gateway's (see `means_routes`).
    """
    meant = [patch for patch in patches if _means_listener(patch, listener)]
    for patch in meant:
        if patch.apply_to == "LISTENER":
            if patch.operation == "REMOVE":
                return False
            if patch.merges:
                merge(listener, patch)
    for patch in meant:
        if patch.apply_to == "LISTENER_FILTER":
            _patch_listener_filters(listener, patch)
    chains = [chain for chain in listener.filter_chains if not chain.filters or _patch_chain(listener, chain, meant)]
    if len(chains) < len(listener.filter_chains):
        del listener.filter_chains[:]
        listener.filter_chains.extend(chains)
    default = listener.default_filter_chain
    if default.filters and not _patch_chain(listener, default, meant):
        listener.ClearField("default_filter_chain")
    for patch in meant:
        if patch.apply_to == "FILTER_CHAIN" and patch.operation == "ADD":
            put_in_place(listener.filter_chains, patch, None)
    inside = [patch for patch in patches if patch.apply_to in _ROUTES]
    for chain in (*listener.filter_chains, listener.default_filter_chain) if inside else ():
        for network_filter in chain.filters:
            _patch_inline_routes(network_filter, inside, ports)
    return True


def _patch_listener_filters(listener: Any, patch: Patch) -> None:
    name = patch.listener.listener_filter if patch.listener else ""
    meant: _Meant | None = (lambda found: found.name == name) if name else None
    if patch.merges:
        for found in filter(meant, listener.listener_filters) if meant else ():
            merge_extension(found, patch)
    else:
        put_in_place(listener.listener_filters, patch, meant)


def _patch_chain(listener: Any, chain: Any, patches: list[Patch]) -> bool:
    """Gives whether the chain is to be there afterwards."""
    for patch in patches:
        if patch.apply_to == "FILTER_CHAIN" and _means_chain(patch, listener, chain):
            if patch.operation == "REMOVE":
                return False
            if patch.merges and not _merge_socket(chain, patch):
                merge(chain, patch)
    inside = [
        patch
        for patch in patches
        if patch.apply_to in ("NETWORK_FILTER", "HTTP_FILTER") and _means_chain(patch, listener, chain)
    ]
    if inside:
        _patch_network_filters(chain, inside)
    return True


def _patch_network_filters(chain: Any, patches: list[Patch]) -> None:
    own = [patch for patch in patches if patch.apply_to == "NETWORK_FILTER"]
    _place(chain.filters, own, _filter_meant)
    for found in chain.filters:
        for patch in own:
            if patch.merges and _is(found, _filter_match(patch)):
                merge_extension(found, patch)
        inside = [patch for patch in patches if patch.apply_to == "HTTP_FILTER" and _is(found, _filter_match(patch))]
        if inside and found.name == _HTTP:
            _patch_http_filters(found, inside)


def _patch_http_filters(network_filter: Any, patches: list[Patch]) -> None:
    manager = hcm_pb2.HttpConnectionManager()
    if not network_filter.typed_config.Unpack(manager):
        return
    _place(manager.http_filters, patches, _http_filter_meant)
    for found in manager.http_filters:
        for patch in patches:
            meant = _http_filter_meant(patch)
            if patch.merges and (meant is None or meant(found)):
                merge_extension(found, patch)
    network_filter.typed_config.CopyFrom(any_of(manager))


def _place(filters: Any, patches: list[Patch], meant: Callable[[Patch], _Meant | None]) -> None:
    """Apply all that changes which filters a chain has, and in which order."""
    for position, patch in enumerate(patches):
        if patch.operation == "ADD" or (patch.operation == "INSERT_AFTER" and meant(patch) is None):
            if (value := value_of(patch)) is not None:
                filters.insert(place_of(patch, filters, patches[:position]), value)
        elif not patch.merges:
            put_in_place(filters, patch, meant(patch))


def _patch_inline_routes(network_filter: Any, patches: list[Patch], ports: Ports | None) -> None:
    """Routes that come inside of a listener are patched like those that come by themselves."""
    manager = hcm_pb2.HttpConnectionManager()
    if not network_filter.typed_config.Unpack(manager) or not manager.HasField("route_config"):
        return
    meant = [patch for patch in patches if means_routes(patch.routes, manager.route_config.name, ports)]
    if meant:
        patch_routes(manager.route_config, meant)
        network_filter.typed_config.CopyFrom(any_of(manager))


def _merge_socket(chain: Any, patch: Patch) -> bool:
    """Merge a transport socket into the chain's of the same name; such a patch does nothing more than that. Gives False
    for one that is to be merged as a whole.
    """
    value = value_of(patch)
    if value is None or not value.HasField("transport_socket") or not chain.HasField("transport_socket"):
        return False
    ours, theirs = chain.transport_socket, value.transport_socket
    if ours.name != theirs.name:
        return False
    if ours.HasField("typed_config") and theirs.HasField("typed_config"):
        merge_packed(ours.typed_config, theirs.typed_config, patch)
    return True


# What is meant


def _means_listener(patch: Patch, listener: Any) -> bool:
    match = patch.listener
    if match is None:
        return True
    if match.name not in ("", listener.name):
        return False
    if patch.apply_to != "LISTENER" and listener.name in _VIRTUAL:
        return True  # there the port is that of a chain
    return match.port_number in (0, listener.address.socket_address.port_value)


def _means_chain(patch: Patch, listener: Any, chain: Any) -> bool:
    match = patch.listener
    if match is None:
        return True
    matched = chain.filter_chain_match
    if listener.name in _VIRTUAL and match.port_number not in (0, matched.destination_port.value):
        return False
    wanted = match.filter_chain or FilterChainMatch()
    protocols = wanted.application_protocols.split(",") if wanted.application_protocols else ()
    return (
        wanted.name in ("", chain.name)
        and (not wanted.sni or wanted.sni in matched.server_names)
        and wanted.transport_protocol in ("", matched.transport_protocol)
        and all(protocol in matched.application_protocols for protocol in protocols)
        and wanted.destination_port in (0, matched.destination_port.value)
    )


def _filter_match(patch: Patch) -> FilterMatch | None:
    chain = patch.listener.filter_chain if patch.listener else None
    return chain.filter if chain else None


def _is(network_filter: Any, match: FilterMatch | None) -> bool:
    return match is None or match.name == network_filter.name


def _filter_meant(patch: Patch) -> _Meant | None:
    match = _filter_match(patch)
    return (lambda found: _is(found, match)) if match else None


def _http_filter_meant(patch: Patch) -> _Meant | None:
    match = _filter_match(patch)
    sub_filter = match.sub_filter if match else None
    return (lambda found: found.name == sub_filter.name) if sub_filter else None
