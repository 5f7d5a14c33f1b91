"""What of the mesh's configuration shapes the proxies' configuration: part of the specs that it shapes."""

from __future__ import annotations

from typing import Any

import msgspec

from pilotfish.api.capture_ports import INBOUND, OUTBOUND
from pilotfish.api.demand import captures_dns
from pilotfish.api.networking.connection_pool import TcpKeepalive
from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.api.proxyconfig import own_servers
from pilotfish.mesh.default_policy import NOTHING_SAID, DefaultTrafficPolicy
from pilotfish.mesh.locality import LocalitySetting, locality_setting, zone_setting
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.mutual_tls import MutualTlsSettings, mutual_tls_settings
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Record
from pilotfish.mesh.reporting import NOTHING, Reporting
from pilotfish.mesh.servers import TLS_VERSIONS, TlsDefaults
from pilotfish.mesh.telemetry import Reports
from pilotfish.xds.build import names
from pilotfish.xds.build.cluster_policy import ClusterPolicy
from pilotfish.xds.build.http_settings import AS_EVER, HttpSettings
from pilotfish.xds.build.retries import BY_DEFAULT, Retries
from pilotfish.xds.build.routes import RouteConfigurationSpec, VirtualHostSpec
from pilotfish.xds.collectors import reachable
from pilotfish.xds.http_settings import http_settings
from pilotfish.xds.http_settings import of_proxy as http_settings_of
from pilotfish.xds.retries import retries_of
from pilotfish.xds.source import ProxyNode

ALLOCATED_RANGES = ("240.240.0.0/16", "2001:2::/48")
"""From which hosts without an address get one."""

_PROXY_PORTS = frozenset({15000, 15020, 15021, 15053, 15090})


class Edge(Record):
    """How a gateway takes its clients' word: proxies in front of it that are believed, what becomes of certificates in
    headers (Envoy's words), whether each connection begins with a PROXY header, and whether HTTP/1.0 is taken.
    """

    trusted_proxies: int = 0
    client_certificates: str = "SANITIZE_SET"
    proxy_protocol: bool = False
    http_1_0: bool = False


class ProxySettings(Record):
    """Seconds throughout. `allow_any` lets through what goes to no host of the mesh (Istio: outboundTrafficPolicy).

    `detection_timeout`: how long first bytes are waited for that say what a connection speaks; 0 is for ever, and None
    where nobody said it.
    `h2_upgrade`: HTTP ports speak HTTP/2 unless a rule says otherwise; `default_policy` is for hosts that have none;
    `locality` says which endpoints clients prefer by where they are, for the same.
    `retries` holds where no route says how requests are tried again.
    `client` and `server` are what is reported of outbound and inbound traffic; `listener_log`: also of connections that
    no listener knew what to do with.
    """

    client: Reporting = NOTHING
    server: Reporting = NOTHING
    listener_log: bool = True
    allow_any: bool = True
    connect_timeout: float = 10.0
    detection_timeout: float | None = None
    dns_refresh: float = 60.0
    tcp_keepalive: TcpKeepalive | None = None
    h2_upgrade: bool = False
    default_policy: DefaultTrafficPolicy = NOTHING_SAID
    locality: LocalitySetting | None = LocalitySetting()
    retries: Retries | None = BY_DEFAULT
    outbound_port: int = 15001
    inbound_port: int = 15006
    cluster_domain: str = "cluster.local"
    tls_defaults: TlsDefaults = TlsDefaults()
    mutual_tls: MutualTlsSettings = MutualTlsSettings()
    mesh_ranges: tuple[str, ...] = ALLOCATED_RANGES
    """Where the addresses of the mesh's hosts are, cluster IPs among them."""
    egress_proxy: str = ""
    """The cluster to which goes what is for no host of the mesh, instead of to where it is for."""
    http: HttpSettings = AS_EVER
    own_servers: frozenset[str] = frozenset()
    """The clusters that the bootstrap of proxies has which say nothing of themselves."""
    inbound_localhost: bool = False
    """Workloads listen on the loopback, and not at the address that connections come for."""
    inbound_stat_name: str = ""
    outbound_stat_name: str = ""
    """Patterns of what clusters are called in statistics (Istio: inboundClusterStatName, outboundClusterStatName)."""

    dynamic_dns: bool = False
    """Where requests for no host of the mesh may go, their names are looked up, and they are not sent to the addresses
    that clients meant (Istio: ALLOW_ANY_DYNAMIC_DNS)."""
    unknown_tls: ClientTLSSettings | None = None
    """The TLS that is begun with servers of such names."""
    http_proxy_port: int = 0
    """Where sidecars take requests as HTTP proxies do; 0: nowhere."""

    dns_capture: bool = True
    """Whether workloads look names up in the mesh, and so know the addresses that are allocated to hosts."""

    @property
    def collectors(self) -> frozenset[str]:
        """The hosts to which proxies report, in lower case: every proxy has them."""
        found = self.client.collectors() | self.server.collectors()
        return frozenset(collector.host.lower() for collector in found if not collector.cluster)

    @property
    def catch_all_cluster(self) -> str:
        """Where bytes for no host of the mesh go."""
        return (self.egress_proxy or names.PASSTHROUGH) if self.allow_any else names.BLACK_HOLE

    @property
    def unknown_cluster(self) -> str:
        """Where requests for no host of the mesh go, when they may."""
        return self.egress_proxy or (names.DYNAMIC_DNS if self.dynamic_dns else names.PASSTHROUGH)

    @property
    def catch_all_host(self) -> str:
        """The virtual host of requests for no host of the mesh."""
        if not self.allow_any:
            return names.BLOCK_ALL
        return names.ALLOW_ANY_DYNAMIC_DNS if self.dynamic_dns else names.ALLOW_ANY

    def cluster_policy(self, protocol: Protocol = Protocol.AUTO, *, outside: bool = False) -> ClusterPolicy:
        """How a cluster is used of which nothing is said; `outside`: its servers are not of the mesh."""
        speaks_http = protocol.is_http or protocol is Protocol.AUTO
        in_mesh = self.http.headers.metadata_exchange_headers.mode == "IN_MESH"
        return ClusterPolicy(
            buffer_limit=self.http.connections.cluster_per_connection_buffer_limit_bytes,
            preserve_case=speaks_http and self.http.headers.preserve_http1_header_case,
            hides_peer=speaks_http and outside and in_mesh,
        )

    def route_configuration(
        self, place: int | str, hosts: tuple[VirtualHostSpec, ...], asked_for: tuple[str, ...] = ()
    ) -> RouteConfigurationSpec:
        """The routes of a port that all hosts share, or of a Unix socket for all ports."""
        return RouteConfigurationSpec(
            str(place),
            hosts,
            self.catch_all_host,
            self.unknown_cluster,
            self.http.on_routes,
            by_port=isinstance(place, str),
            asked_for=asked_for,
        )

    def proxied(self, hosts: tuple[VirtualHostSpec, ...]) -> RouteConfigurationSpec:
        """The routes of requests that come as to an HTTP proxy. They are for no address: the name of a host that nobody
        knows is looked up, if it may go anywhere.
        """
        return msgspec.structs.replace(self, dynamic_dns=True).route_configuration(names.HTTP_PROXY, hosts)

    @property
    def goes_by_name(self) -> bool:
        """Whether requests that were captured go where their names say, if nobody knows the host."""
        return self.allow_any and self.dynamic_dns

    @property
    def looks_up(self) -> bool:
        """Whether names of hosts that nobody knows are looked up at all."""
        return self.goes_by_name or (self.allow_any and self.http_proxy_port != 0)

    @property
    def on_demand(self) -> bool:
        """Whether proxies can do with the hosts that their workloads looked up: not where an unknown destination is
        refused, or a request's `Host` says where it goes.
        """
        return self.allow_any and not self.looks_up

    def reserved(self, port: int) -> bool:
        """Whether the proxy itself listens on a port of every address, so that nothing else can."""
        return port in _PROXY_PORTS or port in (self.outbound_port, self.inbound_port)


def of_proxy(settings: ProxySettings, node: ProxyNode) -> ProxySettings:
    """The settings of one proxy: it has its own word on how it takes requests, and keeps the ports to which the
    connections of its pod are captured.
    """
    told = {
        "http": http_settings_of(settings.http, node),
        "outbound_port": _number(node.metadata.get(OUTBOUND)) or settings.outbound_port,
        "inbound_port": _number(node.metadata.get(INBOUND)) or settings.inbound_port,
        "dns_capture": captures_dns(node.metadata),
    }
    changed = {name: value for name, value in told.items() if value != getattr(settings, name)}
    return msgspec.structs.replace(settings, **changed) if changed else settings


def _number(told: Any) -> int:
    return int(told) if isinstance(told, str) and told.isdecimal() else 0


_DEFAULTS = ProxySettings()


def settings_of(mesh: MeshConfig, installed: ProxySettings = _DEFAULTS) -> ProxySettings:
    """The part of MeshConfig that shapes proxies. What no MeshConfig says is as `installed`: domains and ranges.

    Raises Invalid when `accessLogFormat` is to be JSON and is no object.
    """
    reports = Reports(mesh).directions(())
    zones = mesh.zone_aware_lb_setting
    return ProxySettings(
        client=reachable(reports.client, lambda _: None),
        server=reachable(reports.server, lambda _: None),
        listener_log=not mesh.disable_envoy_listener_log,
        allow_any=mesh.outbound_traffic_policy.mode != "REGISTRY_ONLY",
        connect_timeout=mesh.connect_timeout,
        detection_timeout=mesh.protocol_detection_timeout,
        dns_refresh=mesh.dns_refresh_rate,
        tcp_keepalive=mesh.tcp_keepalive,
        h2_upgrade=mesh.h2_upgrade_policy == "UPGRADE",
        default_policy=mesh.default_traffic_policy or NOTHING_SAID,
        locality=zone_setting(zones) if zones is not None else locality_setting(mesh.locality_lb_setting),
        retries=retries_of(mesh.default_http_retry_policy, BY_DEFAULT),
        outbound_port=mesh.proxy_listen_port,
        inbound_port=mesh.proxy_inbound_listen_port,
        cluster_domain=installed.cluster_domain,
        tls_defaults=TlsDefaults(
            TLS_VERSIONS.get(mesh.tls_defaults.min_protocol_version, ""),
            mesh.tls_defaults.cipher_suites,
            mesh.tls_defaults.ecdh_curves,
        ),
        mutual_tls=mutual_tls_settings(mesh),
        mesh_ranges=installed.mesh_ranges,
        http=http_settings(mesh),
        own_servers=frozenset(own_servers(mesh.default_config)),
        dynamic_dns=mesh.outbound_traffic_policy.mode == "ALLOW_ANY_DYNAMIC_DNS",
        unknown_tls=mesh.outbound_traffic_policy.tls,
        http_proxy_port=mesh.proxy_http_port,
        inbound_localhost=mesh.inbound_traffic_policy.mode == "LOCALHOST",
        inbound_stat_name=mesh.inbound_cluster_stat_name,
        outbound_stat_name=mesh.outbound_cluster_stat_name,
    )
