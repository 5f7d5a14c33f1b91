"""What istiod tells at `/debug/…`, as JSON values: pages that users of Istio know, and that our own tools read.

(Istio: pilot/pkg/xds/debug.go)
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from pilotfish.api.anytypes import as_json
from pilotfish.api.meta import timestamp
from pilotfish.mesh.records import Host
from pilotfish.xds.server import Connection
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, ProxyNode, Resource
from pilotfish.xds.status import ProxyState, TypeState

Contents = Mapping[str, tuple[Resource, ...]]
"""Type URL → resources, by name."""

DEFAULT_CLUSTER = "Kubernetes"
KEPT = "kept"
"""Stands for the nonce where a proxy that came back holds what it is to have, so that nothing was sent."""
_ADMIN = "type.googleapis.com/envoy.admin.v3."
_REDACTED = base64.b64encode(b"[redacted]").decode()
"""What Envoy itself shows in place of a private key."""
_SHORT = {
    "cluster": CLUSTER,
    "listener": LISTENER,
    "route": ROUTE,
    "endpoint": ENDPOINT,
    "extensionconfig": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
}


def sync_status(proxies: Iterable[ProxyState]) -> list[dict[str, Any]]:
    """`/debug/syncz`: by proxy and type, the nonce last sent and the one last acknowledged."""
    return [_without_empty(_sync_status(proxy)) for proxy in proxies]


def _sync_status(proxy: ProxyState) -> dict[str, Any]:
    node = proxy.node
    nonces = {
        f"{name}_{what}": nonce
        for name, type_url in _SHORT.items()
        if type_url in proxy.types
        for what, nonce in zip(("sent", "acked"), _nonces(proxy.types[type_url]), strict=True)
    }
    resources = {
        type_url: _without_empty(
            {
                "sent": _nonces(of_type)[0],
                "acked": _nonces(of_type)[1],
                "sentTime": timestamp(of_type.sent_at) if of_type.sent_at else "",
                "lastError": of_type.rejection.message if of_type.rejection else "",
            }
        )
        for type_url, of_type in proxy.types.items()
    }
    return {
        "cluster_id": str(node.metadata.get("CLUSTER_ID") or DEFAULT_CLUSTER),
        "proxy": full_name(node),
        "proxy_type": node.type,
        "istio_version": str(node.metadata.get("ISTIO_VERSION") or ""),
        **nonces,
        "resources": resources,
    }


def _nonces(of_type: TypeState) -> tuple[str, str]:
    """The last one sent and the last one acknowledged."""
    if not of_type.nonce_sent and of_type.resources and of_type.synced:
        return KEPT, KEPT
    return of_type.nonce_sent, of_type.nonce_acked


def full_name(node: ProxyNode) -> str:
    """What users call a proxy: the third part of its node id, pod.namespace."""
    parts = node.id.split("~")
    return parts[2] if len(parts) == 4 else node.id


def resources_of(connection: Connection) -> Contents:
    """What there is for a proxy now; of types that are asked for by name, what it asked for."""
    return {type_url: _wanted(connection, type_url) for type_url in (CLUSTER, LISTENER, ROUTE, ENDPOINT, SECRET)}


def _wanted(connection: Connection, type_url: str) -> tuple[Resource, ...]:
    of_type = connection.state.types.get(type_url)
    if of_type is None:
        return ()
    available: Mapping[str, Resource] = connection.config.resources(type_url)
    held = {state.name for state in of_type.resources}
    return tuple(available[name] for name in sorted(available) if of_type.wildcard or name in held)


def config_dump(contents: Contents) -> dict[str, Any]:
    """`/debug/config_dump?proxyID=…`: the form is that of Envoy's own `/config_dump`. Private keys are left out."""
    clusters = [_entry("cluster", one, cluster_pb2.Cluster) for one in contents[CLUSTER]]
    routes = [_entry("route_config", one, route_pb2.RouteConfiguration) for one in contents[ROUTE]]
    assignments = [_entry("endpoint_config", one, endpoint_pb2.ClusterLoadAssignment) for one in contents[ENDPOINT]]
    listeners = [
        {"name": one.name, "active_state": _entry("listener", one, listener_pb2.Listener)} for one in contents[LISTENER]
    ]
    secrets = [{"name": one.name, **_redacted(_entry("secret", one, secret_pb2.Secret))} for one in contents[SECRET]]
    sections = {
        "ClustersConfigDump": {"dynamic_active_clusters": clusters},
        "ListenersConfigDump": {"dynamic_listeners": listeners},
        "RoutesConfigDump": {"dynamic_route_configs": routes},
        "EndpointsConfigDump": {"dynamic_endpoint_configs": assignments},
        "SecretsConfigDump": {"dynamic_active_secrets": secrets},
    }
    return {"configs": [{"@type": f"{_ADMIN}{name}", **section} for name, section in sections.items()]}


def _entry(field: str, resource: Resource, message: Any) -> dict[str, Any]:
    body = as_json(message.FromString(resource.body))
    return {
        "version_info": resource.version,
        field: {"@type": f"type.googleapis.com/{message.DESCRIPTOR.full_name}", **body},
    }


def _redacted(entry: dict[str, Any]) -> dict[str, Any]:
    certificate = entry["secret"].get("tls_certificate")
    if certificate is not None:
        certificate["private_key"] = {"inline_bytes": _REDACTED}
    return entry


def registry(hosts: Iterable[Host]) -> list[dict[str, Any]]:
    """`/debug/registryz`: every service of the mesh."""
    return [
        _without_empty(
            {
                "hostname": host.service.hostname,
                "namespace": host.service.namespace,
                "name": host.service.name,
                "registry": str(host.service.registry),
                "resolution": str(host.service.resolution),
                "meshExternal": host.service.external,
                "addresses": list(host.service.addresses),
                "exportTo": list(host.service.export_to),
                "ports": [
                    {"name": port.name, "port": port.number, "protocol": str(port.protocol)}
                    for port in host.service.ports
                ],
            }
        )
        for host in hosts
    ]


def endpoints(hosts: Iterable[Host]) -> list[dict[str, Any]]:
    """`/debug/endpointz`: the endpoints of each port of every service."""
    return [
        {
            "svc": f"{host.service.hostname}:{port.name}",
            "namespace": host.service.namespace,
            "ep": [
                _without_empty(
                    {
                        "address": endpoint.address,
                        "port": endpoint.port,
                        "servicePort": port.number,
                        "ready": endpoint.ready,
                        "labels": dict(endpoint.labels),
                        "weight": endpoint.weight,
                        "locality": endpoint.locality,
                        "serviceAccount": endpoint.service_account,
                    }
                )
                for key, found in host.endpoints
                if key == port.key
                for endpoint in found
            ],
        }
        for host in hosts
        for port in host.service.ports
    ]


def _without_empty(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in ("", [], {}, None)}
