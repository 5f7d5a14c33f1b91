"""Network and HTTP filters, as listeners put them together."""

from __future__ import annotations

import functools
from typing import Any

from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2 as set_filter_state_value_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats_pb2
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2 as http_set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.mongo_proxy.v3 import mongo_proxy_pb2
from envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf.message import Message

from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.reporting import NOTHING, Reporting
from pilotfish.xds.build import common, names, on_demand
from pilotfish.xds.build.access_log import access_logs, of_connections, tcp_access_logs
from pilotfish.xds.build.http_settings import AS_EVER, HttpSettings, apply, forward_certificates
from pilotfish.xds.build.metrics import Reporter, connection_metrics, request_metrics
from pilotfish.xds.build.mutual_tls import REQUEST_PROTOCOLS
from pilotfish.xds.build.peers import HEAR_PEER, TELL_PEER, hear_peer, tell_peer
from pilotfish.xds.build.tcp_policy import NOTHING_SAID, TcpPolicy, hold_to
from pilotfish.xds.build.tracing import trace
from pilotfish.xds.settings import Edge

SERVER_NAME = "istio-envoy"
"""What servers call themselves in responses, as in Istio."""


def network_filter(name: str, config: Message) -> listener_components_pb2.Filter:
    return listener_components_pb2.Filter(name=f"envoy.filters.network.{name}", typed_config=common.any_of(config))


def tcp_proxy(
    cluster: str,
    reporting: Reporting = NOTHING,
    reporter: Reporter = Reporter.CLIENT,
    policy: TcpPolicy = NOTHING_SAID,
    stat_prefix: str = "",
    *,
    secure: bool = False,
) -> listener_components_pb2.Filter:
    """Bytes to a cluster, by whose name they are counted where no other is given, as in Istio. `secure`: they come in
    mutual TLS.
    """
    config = tcp_proxy_pb2.TcpProxy(stat_prefix=stat_prefix or cluster, cluster=cluster)
    hold_to(config, policy)
    _report_connections(config, reporting, reporter, secure=secure)
    return network_filter("tcp_proxy", config)


def weighted_tcp_proxy(
    clusters: tuple[tuple[str, int], ...],
    reporting: Reporting,
    policy: TcpPolicy = NOTHING_SAID,
    stat_prefix: str = "",
) -> listener_components_pb2.Filter:
    """Bytes to several clusters by their weights; to the only one where there is one, counted by `stat_prefix`."""
    if len(clusters) == 1:
        return tcp_proxy(clusters[0][0], reporting, policy=policy, stat_prefix=stat_prefix)
    config = tcp_proxy_pb2.TcpProxy(stat_prefix=clusters[0][0])
    hold_to(config, policy)
    _report_connections(config, reporting, Reporter.CLIENT)
    for cluster, weight in clusters:
        config.weighted_clusters.clusters.add(name=cluster, weight=weight)
    return network_filter("tcp_proxy", config)


def mongo(stat_prefix: str) -> listener_components_pb2.Filter:
    """Counts what goes by in MongoDB's protocol (Istio: PILOT_ENABLE_MONGO_FILTER)."""
    return network_filter("mongo_proxy", mongo_proxy_pb2.MongoProxy(stat_prefix=stat_prefix))


def _report_connections(
    config: tcp_proxy_pb2.TcpProxy, reporting: Reporting, reporter: Reporter, *, secure: bool = False
) -> None:
    """Have a TCP proxy log and count. Connections are counted when they begin, too; logged when they end alone."""
    counting = connection_metrics(reporting.metrics, reporter, secure=secure)
    logs = of_connections(reporting.logs)
    config.access_log.extend(tcp_access_logs(logs) if counting else access_logs(logs))
    config.access_log.extend(counting)
    if counting:
        config.access_log_options.flush_access_log_on_connected = True


def tcp_proxy_on_demand(reporting: Reporting, period: str) -> tuple[listener_components_pb2.Filter, ...]:
    """Bytes to the cluster that is named by the connection's destination (`names.destination_format`), for which Envoy
    asks when it is first used.

    The connection waits for it, and is closed after `on_demand.TIMEOUT` without an answer.
    """
    value = set_filter_state_value_pb2.FilterStateValue(object_key="envoy.tcp_proxy.cluster")
    value.format_string.text_format_source.inline_string = names.destination_format(period)
    config = tcp_proxy_pb2.TcpProxy(stat_prefix=names.PASSTHROUGH, cluster=names.PASSTHROUGH)
    _report_connections(config, reporting, Reporter.CLIENT)
    config.on_demand.odcds_config.CopyFrom(common.from_ads())
    config.on_demand.timeout.CopyFrom(common.duration(on_demand.TIMEOUT))
    named = set_filter_state_pb2.Config(on_new_connection=[value])
    return network_filter("set_filter_state", named), network_filter("tcp_proxy", config)


def outbound_http(
    stat_prefix: str,
    route: str | route_pb2.RouteConfiguration,
    reporting: Reporting,
    lookup: Message | None = None,
    settings: HttpSettings = AS_EVER,
    terms: on_demand.OnDemand | None = None,
) -> listener_components_pb2.Filter:
    """A connection manager that gets the route configuration `route` over RDS, unless that is given whole; `lookup`
    looks names of requests up.

    With `terms` routes may ask the control plane for their clusters (`on_demand.asking_routes`).
    """
    manager = _manager(stat_prefix, reporting, Reporter.CLIENT, settings)
    if lookup is not None:
        router = manager.http_filters.pop()
        manager.http_filters.extend((_http_filter("dynamic_forward_proxy", lookup), router))
    if terms is not None:
        on_demand.let_ask(manager, terms)
    if isinstance(route, str):
        manager.rds.route_config_name = route
        manager.rds.config_source.CopyFrom(common.from_ads())
    else:
        manager.route_config.CopyFrom(route)
    return network_filter("http_connection_manager", manager)


def inbound_http(
    stat_prefix: str,
    routes: route_pb2.RouteConfiguration,
    protocol: Protocol,
    reporting: Reporting,
    settings: HttpSettings = AS_EVER,
    *,
    secure: bool = False,
) -> listener_components_pb2.Filter:
    """A connection manager in front of the workload: it names itself "istio-envoy" and tells who the client was.

    `secure`: requests come in mutual TLS.
    """
    web = protocol is Protocol.GRPC_WEB
    manager = _manager(stat_prefix, reporting, Reporter.SERVER, settings, SERVER_NAME, grpc_web=web, secure=secure)
    manager.route_config.CopyFrom(routes)
    forward_certificates(manager, settings.headers)
    if protocol.is_http2:
        manager.http2_protocol_options.SetInParent()
    return network_filter("http_connection_manager", manager)


def gateway_http(
    stat_prefix: str,
    route: str,
    protocol: Protocol,
    edge: Edge,
    reporting: Reporting,
    settings: HttpSettings = AS_EVER,
) -> listener_components_pb2.Filter:
    """A connection manager for clients from outside: it notes their addresses, and names itself "istio-envoy"."""
    grpc_web = protocol is Protocol.GRPC_WEB
    manager = _manager(stat_prefix, reporting, Reporter.CLIENT, settings, SERVER_NAME, grpc_web=grpc_web)
    manager.rds.route_config_name = route
    manager.rds.config_source.CopyFrom(common.from_ads())
    manager.use_remote_address.value = True
    manager.xff_num_trusted_hops = edge.trusted_proxies
    manager.forward_client_cert_details = hcm_pb2.HttpConnectionManager.ForwardClientCertDetails.Value(
        edge.client_certificates
    )
    if edge.client_certificates in ("APPEND_FORWARD", "SANITIZE_SET"):
        told = manager.set_current_client_cert_details
        told.subject.value = True
        told.cert = told.dns = told.uri = True
    if edge.http_1_0:
        manager.http_protocol_options.accept_http_10 = True
    return network_filter("http_connection_manager", manager)


def _manager(
    stat_prefix: str,
    reporting: Reporting,
    reporter: Reporter,
    settings: HttpSettings,
    server_name: str = "",
    *,
    grpc_web: bool = False,
    secure: bool = False,
) -> Any:
    manager = hcm_pb2.HttpConnectionManager(
        codec_type=hcm_pb2.HttpConnectionManager.AUTO,
        stat_prefix=names.stat(stat_prefix),
        access_log=[*access_logs(reporting.logs), *request_metrics(reporting.metrics, reporter, secure=secure)],
        upgrade_configs=[hcm_pb2.HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        http_filters=_http_filters(grpc_web, reporter, reporting.peers, settings.headers.envoy_debug_headers.disabled),
    )
    manager.use_remote_address.value = False
    apply(manager, settings, server_name)
    trace(manager, reporting.tracing)
    return manager


@functools.cache
def _http_filters(grpc_web: bool, reporter: Reporter, peers: bool, silent: bool) -> tuple[hcm_pb2.HttpFilter, ...]:
    """What a connection manager does with requests. `peers`: tell the server who the client is, or hear it; `silent`:
    without Envoy's headers about itself.

    Fault and CORS do nothing until a route says so; the router comes last.
    """
    stats = grpc_stats_pb2.FilterConfig(emit_filter_state=True)
    stats.stats_for_all_methods.value = False
    chosen: list[tuple[str, Message]] = [
        ("grpc_stats", stats),
        ("fault", fault_pb2.HTTPFault()),
        ("cors", cors_pb2.Cors()),
        ("router", router_pb2.Router(suppress_envoy_headers=silent)),
    ]
    if peers:
        chosen.insert(1, (TELL_PEER, tell_peer()) if reporter is Reporter.CLIENT else (HEAR_PEER, hear_peer()))
    if grpc_web:
        chosen.insert(0, ("grpc_web", grpc_web_pb2.GrpcWeb()))
    filters = [_http_filter(name, config) for name, config in chosen]
    if reporter is Reporter.CLIENT:
        filters.insert(1 + grpc_web, _tell_requests_from_bytes())
    return tuple(filters)


def _tell_requests_from_bytes() -> hcm_pb2.HttpFilter:
    """Has connections for requests offer what their cluster says of them, so that the server knows HTTP from bytes.

    It stands where Istio's Envoy has an extension of its own, and under its name, which EnvoyFilters know.
    """
    value = set_filter_state_value_pb2.FilterStateValue(object_key="envoy.network.application_protocols")
    value.format_string.text_format_source.inline_string = (
        f"%METADATA(CLUSTER:{names.SECURITY_METADATA}:{REQUEST_PROTOCOLS})%"
    )
    value.format_string.omit_empty_values = value.skip_if_empty = True
    config = http_set_filter_state_pb2.Config(on_request_headers=[value])
    return hcm_pb2.HttpFilter(name="istio.alpn", typed_config=common.any_of(config))


def fault() -> hcm_pb2.HttpFilter:
    """The filter of delays and aborts, which does what routes say."""
    return _http_filter("fault", fault_pb2.HTTPFault())


def router() -> hcm_pb2.HttpFilter:
    """The filter that every chain of HTTP filters ends with."""
    return _http_filter("router", router_pb2.Router())


def _http_filter(name: str, config: Message) -> hcm_pb2.HttpFilter:
    return hcm_pb2.HttpFilter(name=f"envoy.filters.http.{name}", typed_config=common.any_of(config))
