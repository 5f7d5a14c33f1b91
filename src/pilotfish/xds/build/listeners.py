"""Outbound listeners: what a sidecar does with the connections that its workload opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2

from pilotfish.mesh.records import Record
from pilotfish.mesh.reporting import Reporting
from pilotfish.xds import source
from pilotfish.xds.build import common, dynamic, filters, listener_filters, names
from pilotfish.xds.build.access_log import listener_access_logs
from pilotfish.xds.build.http_settings import AS_EVER, HttpSettings
from pilotfish.xds.build.mutual_tls import PLAINTEXT_HTTP
from pilotfish.xds.build.on_demand import OnDemand, note_networks
from pilotfish.xds.build.routes import route_configuration
from pilotfish.xds.build.tcp_policy import NOTHING_SAID, TcpPolicy
from pilotfish.xds.entries import serialise
from pilotfish.xds.settings import ProxySettings


class TcpChain(Record):
    """Bytes to clusters by their weights (`targets`), for destinations in `ranges` and TLS server names in
    `server_names` where these are given.

    With a `lookup_port` the server name is looked up, to be reached at that port. `mongo`: the bytes are counted by
    MongoDB's protocol. `stat_prefix` is by what they are counted, if not by the cluster's name.
    """

    targets: tuple[tuple[str, int], ...]
    ranges: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    lookup_port: int = 0
    mongo: bool = False
    policy: TcpPolicy = NOTHING_SAID
    stat_prefix: str = ""

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(cluster for cluster, _ in self.targets)

    @property
    def match(self) -> tuple[object, ...]:
        """Two chains of one listener must not have the same."""
        return "tcp", self.ranges, self.server_names


class HttpChain(Record):
    """HTTP to the clusters of a route configuration, where the first bytes look like HTTP.

    `lookup`: some of the clusters are of hosts that are looked up as requests name them.
    """

    route: str
    lookup: bool = False

    @property
    def clusters(self) -> tuple[str, ...]:
        """None by itself: its routes name them."""
        return ()

    @property
    def match(self) -> tuple[object, ...]:
        return ("http",)


Chain = TcpChain | HttpChain


class OutboundListenerSpec(Record):
    """The listener of one destination address (or the wildcard) and port; one that is `bound` has a socket of its own,
    which clients call (at an address and port, or a Unix socket). `on_demand` is for proxies whose configuration comes
    on demand.
    """

    type_url: ClassVar[str] = source.LISTENER

    address: str
    port: int
    chains: tuple[Chain, ...]
    catch_all: str
    detection_timeout: float
    reporting: Reporting
    bound: bool = False
    looks_up: bool = False
    """Names of hosts that nobody knows are looked up."""
    http: HttpSettings = AS_EVER
    on_demand: OnDemand | None = None

    @property
    def name(self) -> str:
        return names.listener(self.address, self.port)

    def body(self) -> bytes:
        return serialise(outbound_listener(self))


class VirtualOutboundSpec(Record):
    """The listener to which all captured outbound connections come first."""

    type_url: ClassVar[str] = source.LISTENER

    wildcard: str
    settings: ProxySettings
    on_demand: OnDemand | None = None
    """For proxies that ask the control plane about addresses that have no listener."""

    @property
    def name(self) -> str:
        return names.VIRTUAL_OUTBOUND

    def body(self) -> bytes:
        return serialise(virtual_outbound(self))


def outbound_listener(spec: OutboundListenerSpec) -> listener_pb2.Listener:
    """A listener that no socket stands for: virtualOutbound hands it the connections for its address.

    A chain that takes everything is the fallback of the others; where there is none, what matches no chain goes to
    where any unknown destination goes.
    """
    listener = listener_pb2.Listener(
        name=spec.name,
        address=common.endpoint_address(spec.address, spec.port),
        traffic_direction=base_pb2.OUTBOUND,
        continue_on_listener_filters_timeout=True,
        listener_filters_timeout=common.duration(0),
    )
    if not spec.bound:
        listener.bind_to_port.value = False
    if any(isinstance(chain, TcpChain) and chain.server_names for chain in spec.chains):
        listener.listener_filters.append(listener_filters.tls_inspector())
    if any(isinstance(chain, HttpChain) for chain in spec.chains):
        listener.listener_filters.append(listener_filters.http_inspector())
        listener.listener_filters_timeout.CopyFrom(common.duration(spec.detection_timeout))
    fallback = None
    for chain in spec.chains:
        built = _chain(chain, spec)
        if built.HasField("filter_chain_match"):
            listener.filter_chains.append(built)
        else:
            fallback = built
    if fallback is None:
        fallback = listener_components_pb2.FilterChain(
            name=names.PASSTHROUGH_CHAIN, filters=[filters.tcp_proxy(spec.catch_all, spec.reporting)]
        )
        fallback.filter_chain_match.SetInParent()
    if listener.filter_chains:
        listener.default_filter_chain.CopyFrom(fallback)
    else:
        listener.filter_chains.append(fallback)
    return listener


def _chain(chain: Chain, spec: OutboundListenerSpec) -> listener_components_pb2.FilterChain:
    if isinstance(chain, HttpChain):
        lookup = dynamic.by_authority(ipv6=":" in spec.address) if chain.lookup or spec.looks_up else None
        terms = spec.on_demand
        settings = spec.http.idle_for(terms.http_idle) if terms else spec.http
        asks = terms if terms and terms.ranges else None
        manager = filters.outbound_http(f"outbound_{spec.name}", chain.route, spec.reporting, lookup, settings, asks)
        return listener_components_pb2.FilterChain(
            filter_chain_match=listener_components_pb2.FilterChainMatch(
                application_protocols=PLAINTEXT_HTTP, transport_protocol="raw_buffer"
            ),
            filters=[note_networks(asks), manager] if asks else [manager],
        )
    built = listener_components_pb2.FilterChain()
    if chain.lookup_port:
        config = dynamic.by_server_name(chain.lookup_port, ipv6=":" in spec.address)
        built.filters.append(filters.network_filter("sni_dynamic_forward_proxy", config))
    if chain.mongo:
        built.filters.append(filters.mongo(chain.clusters[0]))
    built.filters.append(filters.weighted_tcp_proxy(chain.targets, spec.reporting, chain.policy, chain.stat_prefix))
    built.filter_chain_match.prefix_ranges.extend(map(common.cidr, chain.ranges))
    built.filter_chain_match.server_names.extend(chain.server_names)
    if not chain.ranges and not chain.server_names:
        built.ClearField("filter_chain_match")
    return built


def virtual_outbound(spec: VirtualOutboundSpec) -> listener_pb2.Listener:
    """Hands each connection to the listener of its original destination; what has none goes through, or nowhere.

    A connection to the listener's own port was never captured and would loop, so it is dropped.
    """
    settings = spec.settings
    own_port = listener_components_pb2.FilterChain(
        name="virtualOutbound-blackhole", filters=[filters.tcp_proxy(names.BLACK_HOLE)]
    )
    own_port.filter_chain_match.destination_port.value = settings.outbound_port
    rest = listener_components_pb2.FilterChain(
        name="virtualOutbound-catchall-tcp",
        filters=[filters.tcp_proxy(settings.catch_all_cluster, settings.client)],
    )
    listener = listener_pb2.Listener(
        name=spec.name,
        address=common.socket_address(spec.wildcard, settings.outbound_port),
        filter_chains=[own_port, *_asked_for(spec), *_looked_up(spec), rest],
        traffic_direction=base_pb2.OUTBOUND,
        access_log=listener_access_logs(settings.client.logs) if settings.listener_log else (),
    )
    if settings.goes_by_name:
        # It looks before a connection is handed on: one in which the server speaks first must not wait for ever.
        listener.listener_filters.append(listener_filters.http_inspector())
        listener.listener_filters_timeout.CopyFrom(
            common.duration(settings.detection_timeout or listener_filters.SERVER_FIRST_PATIENCE)
        )
        listener.continue_on_listener_filters_timeout = True
    listener.use_original_dst.value = True
    listener.max_connections_to_accept_per_socket_event.value = 1
    return listener


def _asked_for(spec: VirtualOutboundSpec) -> Iterator[listener_components_pb2.FilterChain]:
    if spec.on_demand is not None and spec.on_demand.ranges:
        chain = listener_components_pb2.FilterChain(
            name="virtualOutbound-on-demand",
            filters=filters.tcp_proxy_on_demand(spec.settings.client, spec.on_demand.period),
        )
        chain.filter_chain_match.prefix_ranges.extend(map(common.cidr, spec.on_demand.ranges))
        yield chain


def _looked_up(spec: VirtualOutboundSpec) -> Iterator[listener_components_pb2.FilterChain]:
    """Requests for hosts that nobody knows, whose names are looked up."""
    settings = spec.settings
    if not settings.goes_by_name:
        return
    unknown = settings.route_configuration(names.ALLOW_ANY_DYNAMIC_DNS, ())
    manager = filters.outbound_http(
        f"outbound_{names.VIRTUAL_OUTBOUND}_{names.ALLOW_ANY_DYNAMIC_DNS}",
        route_pb2.RouteConfiguration.FromString(route_configuration(unknown)),
        settings.client,
        dynamic.by_authority(ipv6=":" in spec.wildcard),
        settings.http,
    )
    chain = listener_components_pb2.FilterChain(name="virtualOutbound-catchall-tcp-http", filters=[manager])
    chain.filter_chain_match.application_protocols.extend(PLAINTEXT_HTTP)
    yield chain


class HttpProxySpec(Record):
    """The listener at which a sidecar takes requests as HTTP proxies do (Istio: proxyHttpPort)."""

    type_url: ClassVar[str] = source.LISTENER

    address: str
    settings: ProxySettings

    @property
    def name(self) -> str:
        return names.listener(self.address, self.settings.http_proxy_port)

    def body(self) -> bytes:
        return serialise(http_proxy(self))


def http_proxy(spec: HttpProxySpec) -> listener_pb2.Listener:
    """Requests by their authority; nothing but HTTP is taken, since nothing else says where it is for."""
    settings = spec.settings
    lookup = dynamic.by_authority(ipv6=":" in spec.address) if settings.looks_up else None
    manager = filters.outbound_http(f"outbound_{spec.name}", names.HTTP_PROXY, settings.client, lookup, settings.http)
    return listener_pb2.Listener(
        name=spec.name,
        address=common.socket_address(spec.address, settings.http_proxy_port),
        filter_chains=[listener_components_pb2.FilterChain(filters=[manager])],
        traffic_direction=base_pb2.OUTBOUND,
    )
