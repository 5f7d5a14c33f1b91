"""What Istio refuses of an EnvoyFilter, and what it warns of (pkg/config/validation/envoyfilter)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotfish.api.faults import forbidden, invalid, required, wrong_type
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.regex import regex
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.envoy_filter import EnvoyConfigObjectPatch, EnvoyFilter, FilterMatch
from pilotfish.api.one_of import one_of_faults

if TYPE_CHECKING:
    from pilotfish.api.envoyjson import Fault

_PATCH = "spec.configPatches[]"
ENVOY_FILTER_NOT_HONOURED = frozenset(
    {"spec.targetRefs", f"{_PATCH}.match.context=WAYPOINT", f"{_PATCH}.match.waypoint"}
)
"""What is for gateways of the Kubernetes Gateway API."""
ENVOY_FILTER_ISTIO_NEITHER = {
    f"{_PATCH}.applyTo=BOOTSTRAP": "deprecated; its agent does not ask for such patches any more",
    f"{_PATCH}.match.listener.portName": "it looks at portNumber alone",
}
"""Fields of an EnvoyFilter that change nothing in Istio either, and why."""
_HTTP_CONNECTION_MANAGER = ("envoy.filters.network.http_connection_manager", "envoy.http_connection_manager")
_LONGEST_VERSION = 1024
PATCHED = {
    "LISTENER": "envoy.config.listener.v3.Listener",
    "LISTENER_FILTER": "envoy.config.listener.v3.ListenerFilter",
    "FILTER_CHAIN": "envoy.config.listener.v3.FilterChain",
    "NETWORK_FILTER": "envoy.config.listener.v3.Filter",
    "HTTP_FILTER": "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    "ROUTE_CONFIGURATION": "envoy.config.route.v3.RouteConfiguration",
    "VIRTUAL_HOST": "envoy.config.route.v3.VirtualHost",
    "HTTP_ROUTE": "envoy.config.route.v3.Route",
    "CLUSTER": "envoy.config.cluster.v3.Cluster",
    "EXTENSION_CONFIG": "envoy.config.core.v3.TypedExtensionConfig",
    "BOOTSTRAP": "envoy.config.bootstrap.v3.Bootstrap",
}
"""The message that the value of a patch is a piece of, by what the patch is applied to."""
_LISTENER_CLASS = ("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")
_ROUTE_CLASS = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_MATCHES = {
    **dict.fromkeys(_LISTENER_CLASS, "listener"),
    **dict.fromkeys(_ROUTE_CLASS, "routeConfiguration"),
    "CLUSTER": "cluster",
}
"""Which match each class of objects can have."""
_HTTP, _NETWORK, _LISTENER = "envoy.filters.http.", "envoy.filters.network.", "envoy.filters.listener."
RENAMED_FILTERS = {
    **{f"envoy.{name}": f"{_HTTP}{name}" for name in ("buffer", "cors", "csrf", "fault", "grpc_http1_bridge")},
    **{f"envoy.{name}": f"{_HTTP}{name}" for name in ("grpc_json_transcoder", "grpc_web", "gzip", "health_check")},
    **{f"envoy.{name}": f"{_HTTP}{name}" for name in ("ip_tagging", "lua", "router", "squash", "ext_authz")},
    "envoy.http_dynamo_filter": f"{_HTTP}dynamo",
    "envoy.rate_limit": f"{_HTTP}ratelimit",
    **{f"envoy.{name}": f"{_NETWORK}{name}" for name in ("http_connection_manager", "mongo_proxy", "ratelimit")},
    **{f"envoy.{name}": f"{_NETWORK}{name}" for name in ("redis_proxy", "tcp_proxy", "client_ssl_auth")},
    **{f"envoy.listener.{name}": f"{_LISTENER}{name}" for name in ("http_inspector", "original_dst", "original_src")},
    **{f"envoy.listener.{name}": f"{_LISTENER}{name}" for name in ("proxy_protocol", "tls_inspector")},
}
"""Names that Envoy had before its version 1.14, and what the filters are called now."""


def envoy_filter(obj: EnvoyFilter) -> Faults:
    """The faults of an EnvoyFilter."""
    spec = obj.spec
    yield from one_of_faults(spec, "spec")
    if spec.workload_selector:
        yield from values.selector("spec.workloadSelector.labels", spec.workload_selector.labels)
    for position, target in enumerate(spec.target_refs or ()):
        yield from values.target_reference(f"spec.targetRefs[{position}]", target)
    for position, patch in enumerate(spec.config_patches):
        yield from _patch(f"spec.configPatches[{position}]", patch)


def envoy_filter_warnings(obj: EnvoyFilter) -> Faults:
    """What is valid and probably not what was meant."""
    yield values.warning("spec", "it changes Envoy's configuration, which no API promises; prefer other kinds")
    if obj.spec.workload_selector:
        yield from values.selects_all("spec.workloadSelector", obj.spec.workload_selector.labels)
    for position, patch in enumerate(obj.spec.config_patches):
        yield from _value_warnings(f"spec.configPatches[{position}]", patch)
        path = f"spec.configPatches[{position}].match"
        if patch.match.proxy and len(patch.match.proxy.proxy_version) > _LONGEST_VERSION:
            why = f"longer than {_LONGEST_VERSION} characters, it is ignored"
            yield values.warning(f"{path}.proxy.proxyVersion", why)
        chain = patch.match.listener.filter_chain if patch.match.listener else None
        if chain and chain.filter:
            where = f"{path}.listener.filterChain.filter"
            if patch.apply_to in ("LISTENER", "FILTER_CHAIN"):
                yield values.warning(where, f"a match of filters has no effect on a {patch.apply_to}")
            yield from _renamed(f"{where}.name", chain.filter.name)
            if chain.filter.sub_filter:
                yield from _renamed(f"{where}.subFilter.name", chain.filter.sub_filter.name)


def _renamed(path: str, name: str) -> Faults:
    if name in RENAMED_FILTERS:
        yield values.warning(path, f'"{name}" is an old name; use "{RENAMED_FILTERS[name]}"')


def _patch(path: str, patch: EnvoyConfigObjectPatch) -> Faults:
    match = patch.match
    if match.context == "WAYPOINT":
        if match.waypoint is None:
            yield required(f"{path}.match.waypoint", "context WAYPOINT is matched by it")
    elif match.waypoint:
        yield forbidden(f"{path}.match.waypoint", "it is for context WAYPOINT only")
    if match.waypoint and match.waypoint.port_number:
        yield from values.port_number(f"{path}.match.waypoint.portNumber", match.waypoint.port_number)
    if match.context == "WAYPOINT":
        return
    if patch.apply_to == "INVALID":
        yield required(f"{path}.applyTo", "say what is patched, such as CLUSTER or HTTP_FILTER")
    if patch.patch is None:
        yield required(f"{path}.patch")
    elif patch.patch.operation == "INVALID":
        yield required(f"{path}.patch.operation", "say what is done, such as MERGE or INSERT_BEFORE")
    elif patch.patch.operation != "REMOVE" and patch.patch.value is None:
        yield required(f"{path}.patch.value", f"operation {patch.patch.operation} needs it")
    if match.proxy and 0 < len(match.proxy.proxy_version) <= _LONGEST_VERSION:
        yield from regex(f"{path}.match.proxy.proxyVersion", match.proxy.proxy_version)
    fitting = _MATCHES.get(patch.apply_to)
    given = {"listener": match.listener, "routeConfiguration": match.route_configuration, "cluster": match.cluster}
    for name, value in given.items():
        if value and fitting and name != fitting:
            why = f"applyTo {patch.apply_to} is matched by {fitting}"
            yield forbidden(f"{path}.match.{name}", why)
    chain = match.listener.filter_chain if match.listener else None
    if chain and chain.filter and fitting == "listener":
        yield from _filter(f"{path}.match.listener.filterChain.filter", chain.filter, patch.apply_to)
    yield from _value(path, patch)


def _value(path: str, patch: EnvoyConfigObjectPatch) -> Faults:
    """What Envoy knows under another name or in another version is passed over, as in Istio, and warned of."""
    for fault in _value_faults(patch):
        if not fault.unknown:
            yield wrong_type(_within(path, fault.path), fault.expected)


def _value_warnings(path: str, patch: EnvoyConfigObjectPatch) -> Faults:
    for fault in _value_faults(patch):
        if fault.unknown:
            yield values.warning(_within(path, fault.path), f"it is passed over: expected {fault.expected}")


def _value_faults(patch: EnvoyConfigObjectPatch) -> tuple[Fault, ...]:
    # Only who checks an EnvoyFilter needs Envoy's messages: importing them takes longer than most commands run.
    from pilotfish.api import envoyjson

    if patch.patch is None or patch.patch.value is None or patch.apply_to not in PATCHED:
        return ()
    return envoyjson.faults(patch.patch.value, PATCHED[patch.apply_to])


def _within(path: str, inner: str) -> str:
    value = f"{path}.patch.value"
    return f"{value}.{inner}" if inner else value


def _filter(path: str, match: FilterMatch, apply_to: str) -> Faults:
    if not match.name:
        yield required(f"{path}.name", "a filter is matched by its name")
    if match.sub_filter is None:
        return
    if apply_to != "HTTP_FILTER":
        yield forbidden(f"{path}.subFilter", "only applyTo HTTP_FILTER has filters within a filter")
    elif match.name and match.name not in _HTTP_CONNECTION_MANAGER:
        yield invalid(f"{path}.name", match.name, f"filters are within {_HTTP_CONNECTION_MANAGER[0]} only")
    if not match.sub_filter.name:
        yield required(f"{path}.subFilter.name", "a filter is matched by its name")
