"""What every sidecar has, whatever hosts there are."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import ClusterSpec, Discovery, FixedClusterSpec
from pilotfish.xds.build.http_options import Upstream
from pilotfish.xds.build.listeners import HttpProxySpec, VirtualOutboundSpec
from pilotfish.xds.build.upstream_tls import Origination
from pilotfish.xds.entries import Spec
from pilotfish.xds.settings import ProxySettings


def fixed(audience: Audience) -> Iterator[Spec]:
    """Clusters of connections and requests for no host, and the listeners that captured connections come to."""
    settings = audience.settings
    for name in (names.BLACK_HOLE, names.PASSTHROUGH, names.INBOUND_PASSTHROUGH):
        policy = settings.cluster_policy(outside=name == names.PASSTHROUGH)
        yield FixedClusterSpec(name, settings.connect_timeout, audience.ipv6, policy)
    yield VirtualOutboundSpec(audience.wildcard, settings)
    if settings.looks_up:
        yield _looked_up(settings, ipv6=audience.ipv6)
    if settings.http_proxy_port:
        yield HttpProxySpec("::1" if audience.ipv6 else "127.0.0.1", settings)
        yield settings.proxied(())


def _looked_up(settings: ProxySettings, *, ipv6: bool) -> ClusterSpec:
    """To servers by the names that requests say, in TLS where the mesh says which."""
    tls, defaults = settings.unknown_tls, settings.tls_defaults
    policy = settings.cluster_policy(outside=True)
    if settings.dynamic_dns and tls is not None and tls.mode in ("SIMPLE", "MUTUAL") and not tls.credential_name:
        begun = Origination(tls, tls.subject_alt_names, defaults.cipher_suites, defaults.curves)
        policy = msgspec.structs.replace(policy, tls=begun)
    return ClusterSpec(
        names.DYNAMIC_DNS,
        Discovery.DYNAMIC_DNS,
        Upstream.AS_DOWNSTREAM,
        settings.connect_timeout,
        ipv6=ipv6,
        policy=policy,
    )
