"""Where traffic for one host goes: its clusters, one for each port and subset, and their endpoints."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings, HTTPSettings
from pilotfish.api.networking.destination import Destination
from pilotfish.api.networking.destination_rule import TrafficPolicy
from pilotfish.api.networking.load_balancer import LoadBalancerSettings
from pilotfish.mesh.credentials import CONFIG_MAP
from pilotfish.mesh.hosts import is_ip
from pilotfish.mesh.locality import NETWORK, Preference, effective, preference, weighted
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Endpoint, Host, Registry, Resolution, Service, ServicePort
from pilotfish.mesh.seen import Seen
from pilotfish.mesh.traffic_policy import traffic_policy
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import ClusterSpec, Discovery, ServiceName
from pilotfish.xds.build.endpoints import AssignmentSpec
from pilotfish.xds.build.http_options import upgraded
from pilotfish.xds.originate import originated, passes_through
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.stat_names import stat_name


def clusters(seen: Seen, audience: Audience) -> tuple[ClusterSpec, ...]:
    """The clusters of a host: one for each port, and one for each port of each subset that a DestinationRule names."""
    return tuple(_clusters(seen, audience))


def _clusters(seen: Seen, audience: Audience) -> Iterator[ClusterSpec]:
    host = seen.host
    if host is None:
        return
    for port in host.service.ports:
        if port.protocol is Protocol.UDP:
            continue
        for use in uses(seen, host, port, audience):
            if use.endpoints or not host.service.by_name:  # a cluster of names to look up needs at least one
                yield _cluster(seen, host, port, use, audience)


def assignments(seen: Seen, audience: Audience) -> tuple[AssignmentSpec, ...]:
    """The load assignments of a host whose endpoints are sent: all that a change of its endpoints touches."""
    host = seen.host
    if host is None or host.service.resolution is not Resolution.STATIC:
        return ()
    return tuple(
        AssignmentSpec(cluster_name(host.service, port, use.subset), *shown(use, audience))
        for port in host.service.ports
        if port.protocol is not Protocol.UDP
        for use in uses(seen, host, port, audience)
        if not passes_through(use.said)
    )


class Use(NamedTuple):
    """A port of a host, or of a subset of it: what is said of it, and the endpoints that may get traffic."""

    subset: str
    said: TrafficPolicy
    endpoints: tuple[Endpoint, ...]
    close: bool
    """Whether clients are to prefer those that are close."""


def uses(seen: Seen, host: Host, port: ServicePort, audience: Audience) -> Iterator[Use]:
    """All endpoints of a port under the subset "", then those of each subset."""
    default = audience.settings.default_policy
    serving = reachable(host.serving(port), audience)
    close = host.service.close
    yield Use("", traffic_policy(seen.rule, port.number, default=default), serving, close)
    for subset in seen.rule.subsets if seen.rule else ():
        labels = subset.labels.items()
        endpoints = tuple(endpoint for endpoint in serving if labels <= dict(endpoint.labels).items())
        yield Use(subset.name, traffic_policy(seen.rule, port.number, subset.name, default), endpoints, close)


def shown(use: Use, audience: Audience) -> tuple[tuple[Endpoint, ...], Preference | None]:
    """What is sent of endpoints, and what the audience prefers of them."""
    setting = effective(use.said, audience.settings.locality, close=use.close)
    preferred = preference(setting, audience.client, ejects=use.said.outlier_detection is not None)
    names_of_labels = tuple(name for name, _ in preferred.labels) if preferred else ()
    return tuple(reduced(endpoint, names_of_labels) for endpoint in use.endpoints), preferred


def reachable(endpoints: tuple[Endpoint, ...], audience: Audience) -> tuple[Endpoint, ...]:
    """Those that are not of another IP family than the audience; all of them where that leaves none.

    Istio sends both families to proxies that have one, and every other connection fails.
    """
    ours = tuple(e for e in endpoints if audience.reaches(e.address) or not is_ip(e.address))
    return ours if len(ours) < len(endpoints) and ours else endpoints


def assignment(host: Host, port: ServicePort) -> AssignmentSpec:
    """All endpoints of a port that may get traffic."""
    return AssignmentSpec(cluster_name(host.service, port), tuple(map(reduced, host.serving(port))))


@functools.lru_cache(maxsize=4096)
def reduced(endpoint: Endpoint, labels: tuple[str, ...] = ()) -> Endpoint:
    """What an assignment shows of an endpoint, so that a change of anything else is no change to it: of its labels
    those that somebody prefers endpoints by.
    """
    return Endpoint(
        endpoint.address,
        endpoint.port,
        weight=endpoint.weight,
        locality=endpoint.locality,
        peer=endpoint.peer,
        labels=tuple((name, value) for name, value in endpoint.labels if name in labels),
        network=endpoint.network if NETWORK in labels else "",
        mutual_tls=endpoint.mutual_tls,
    )


def cluster_name(service: Service, port: ServicePort, subset: str = "") -> str:
    return names.outbound(port.number, service.hostname, subset, udp=port.key.udp)


def destination_cluster(destination: Destination, hostname: str, service: Service | None, port: int) -> str:
    """The cluster that a route's destination names: of the port that it says, or the only one of the service, else of
    the port at which the request came (Istio: GetDestinationCluster). `service` is None where nobody sees the host.
    """
    number = destination.port.number if destination.port else 0
    if not number and service is not None and len(service.ports) == 1:
        number = service.ports[0].number
    return names.outbound(number or port, service.hostname if service else hostname, destination.subset)


def static_cluster(service: Service, port: ServicePort, settings: ProxySettings) -> ClusterSpec:
    """The cluster of a service whose endpoints are sent, for clients that no rules are for."""
    return _spec(service, port, "", traffic_policy(None, port.number, default=settings.default_policy), settings)


def _spec(
    service: Service, port: ServicePort, subset: str, said: TrafficPolicy, settings: ProxySettings
) -> ClusterSpec:
    pool = said.connection_pool or ConnectionPoolSettings()
    timeout = pool.tcp.connect_timeout if pool.tcp else None
    balancing = said.load_balancer or LoadBalancerSettings()
    ejects = said.outlier_detection is not None
    by_place = effective(said, settings.locality, close=service.close)
    return ClusterSpec(
        name=cluster_name(service, port, subset),
        discovery=Discovery.ORIGINAL_DST if passes_through(said) else Discovery.EDS,
        upstream=upgraded(port.protocol, pool.http or HTTPSettings(), by_default=settings.h2_upgrade),
        connect_timeout=parse_duration(timeout) if timeout is not None else settings.connect_timeout,
        service=called(service),
        stat_name=stat_name(settings.outbound_stat_name, service, port, subset),
        policy=replace(
            settings.cluster_policy(port.protocol, outside=service.external),
            connection_pool=pool,
            outlier_detection=said.outlier_detection,
            retry_budget=said.retry_budget,
            tcp_keepalive=settings.tcp_keepalive,
            load_balancer=replace(balancing, locality_lb_setting=None, zone_aware_lb_setting=None),
            proxy_header=said.proxy_protocol.version if said.proxy_protocol else "",
            weighted_localities=weighted(by_place, ejects=ejects),
            zones=by_place.zones if by_place else None,
        ),
    )


def called(service: Service) -> ServiceName:
    """What a service is called in metrics (Istio: an entry's host is its name)."""
    name = service.name if service.registry is Registry.KUBERNETES else service.hostname
    return ServiceName(service.hostname, name, service.namespace)


def _cluster(seen: Seen, host: Host, port: ServicePort, use: Use, audience: Audience) -> ClusterSpec:
    settings, service = audience.settings, host.service
    rule = seen.rule.sources[0] if seen.rule is not None else None
    spec = _spec(service, port, use.subset, use.said, settings)
    # Sidecars that no rule selects would wait for Secrets that are not for them (Istio).
    public = use.said.tls is not None and use.said.tls.credential_name.startswith(CONFIG_MAP)
    credentials = audience.gateway or public or (seen.rule is not None and bool(seen.rule.selector))
    tls = originated(host, spec.name, port.protocol, spec.upstream, use.said, settings, credentials=credentials)
    spec = replace(spec, rule=rule, policy=replace(spec.policy, tls=tls))
    if spec.discovery is Discovery.ORIGINAL_DST:
        return spec
    match service.resolution:
        case Resolution.STATIC:
            return spec
        case Resolution.PASSTHROUGH:
            target = int(port.target) if service.registry is Registry.EXTERNAL else port.number
            override = target if target != port.number else 0
            return replace(spec, discovery=Discovery.ORIGINAL_DST, port_override=override)
        case Resolution.DYNAMIC_DNS:
            return replace(spec, discovery=Discovery.DYNAMIC_DNS, ipv6=audience.ipv6)
        case Resolution.DNS | Resolution.DNS_ROUND_ROBIN:
            strict = service.resolution is Resolution.DNS
            sent, preferred = shown(use, audience)
            return replace(
                spec,
                discovery=Discovery.STRICT_DNS if strict else Discovery.LOGICAL_DNS,
                endpoints=sent if strict else sent[:1],  # Envoy's LOGICAL_DNS looks one name up
                preferred=preferred,
                dns_refresh=settings.dns_refresh,
                ipv6=audience.ipv6,
            )
        case Resolution.ALIAS:
            raise ValueError(f"{service.hostname} stands for another name and has no ports")
