"""Servers that a proxy reports to by its own bootstrap, and no host of the mesh (Istio: envoyMetricsService,
envoyAccessLogService, tracing): their clusters, which look names up in the pod.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from pilotfish.api.durations import seconds
from pilotfish.api.networking.connection_pool import TcpKeepalive
from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.api.proxy_files import ROOT_SECRET, WORKLOAD_SECRET
from pilotfish.api.proxyconfig import ACCESS_LOG_SERVICE, METRICS_SERVICE, ProxyConfig, RemoteService, own_servers

_TYPES = "type.googleapis.com/envoy."

Secret = Callable[[str], dict[str, Any]]
"""The configuration by which Envoy finds one of the workload's own secrets."""


def clusters(config: ProxyConfig, secret: Secret) -> Iterator[dict[str, Any]]:
    """A cluster for each server that the configuration names."""
    for name, server in own_servers(config).items():
        yield _cluster(name, server, secret, grpc=name in (METRICS_SERVICE, ACCESS_LOG_SERVICE))


def resolved(address: str) -> str:
    """A "<host>:<port>" with the host's address in place of its name, as this machine finds it; "" where it finds none.

    Blocks. (Istio's agent does the same for `statsdUdpAddress`, which Envoy takes as an address alone.)
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return ""
    try:
        found = ip_address(host.strip("[]"))
    except ValueError:
        try:
            found = ip_address(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
        except OSError:
            return ""
    return f"[{found}]:{port}" if found.version == 6 else f"{found}:{port}"


def _cluster(name: str, service: RemoteService, secret: Secret, *, grpc: bool) -> dict[str, Any]:
    host, _, port = service.address.rpartition(":")
    endpoint = {"address": {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}}
    dns = {
        "@type": _TYPES + "extensions.clusters.dns.v3.DnsCluster",
        "respect_dns_ttl": True,
        "dns_lookup_family": "V4_PREFERRED",
    }
    http2 = {
        "@type": _TYPES + "extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    found: dict[str, Any] = {
        "name": name,
        "alt_stat_name": f"{name};",
        "cluster_type": {"name": "envoy.clusters.dns", "typed_config": dns},
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }
    if grpc:
        options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
        found["typed_extension_protocol_options"] = options
    if service.tcp_keepalive is not None:
        found["upstream_connection_options"] = {"tcp_keepalive": _keepalive(service.tcp_keepalive)}
    if service.tls_settings is not None and service.tls_settings.mode != "DISABLE":
        found["transport_socket"] = _socket(name, service.tls_settings, secret, ("h2",) if grpc else ())
    return found


def _keepalive(wanted: TcpKeepalive) -> dict[str, int]:
    said = {
        "keepalive_probes": wanted.probes,
        "keepalive_time": int(seconds(wanted.time)),
        "keepalive_interval": int(seconds(wanted.interval)),
    }
    return {name: value for name, value in said.items() if value}


def _socket(cluster: str, tls: ClientTLSSettings, secret: Secret, protocols: tuple[str, ...]) -> dict[str, Any]:
    names = [{"san_type": kind, "matcher": {"exact": n}} for n in tls.subject_alt_names for kind in ("DNS", "URI")]
    validation: dict[str, Any] = {"match_typed_subject_alt_names": names} if names else {}
    common: dict[str, Any] = {"alpn_protocols": list(protocols)}
    if tls.mode == "ISTIO_MUTUAL":
        common["tls_certificate_sds_secret_configs"] = [secret(WORKLOAD_SECRET)]
        common["combined_validation_context"] = {
            "default_validation_context": validation,
            "validation_context_sds_secret_config": secret(ROOT_SECRET),
        }
    else:
        if tls.mode == "MUTUAL":
            pair = {"certificate_chain": _file(tls.client_certificate), "private_key": _file(tls.private_key)}
            common["tls_certificates"] = [pair]
        roots = {"trusted_ca": _file(tls.ca_certificates)} if tls.ca_certificates else {"system_root_certs": {}}
        common["validation_context"] = {**validation, **roots}
    config = {
        "@type": _TYPES + "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
        "sni": tls.sni or (cluster if tls.mode == "ISTIO_MUTUAL" else ""),
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _file(path: str) -> dict[str, str]:
    return {"filename": path}
