"""Hosts whose names are looked up as clients ask for them: Envoy's dynamic forward proxy (Istio: DYNAMIC_DNS).

Whoever finds a name and whoever connects to it must share a cache, which is known by its name. A listener of a port
serves many hosts, so there is one cache for all of a proxy's. (Istio has one for each host, and with it only the host
that a shared listener was made for can be looked up.)
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import sni_dynamic_forward_proxy_pb2

CACHE = "dynamic_dns"


def cluster_type(*, ipv6: bool) -> dynamic_cluster_pb2.ClusterConfig:
    """The configuration of a cluster of type "envoy.clusters.dynamic_forward_proxy"."""
    # Envoy insists on names in certificates otherwise, of clusters that speak no TLS too.
    return dynamic_cluster_pb2.ClusterConfig(dns_cache_config=_cache(ipv6), allow_insecure_cluster_options=True)


def by_authority(*, ipv6: bool) -> dynamic_forward_proxy_pb2.FilterConfig:
    """The HTTP filter that looks up what a request's `Host` names; it leaves requests for other clusters alone."""
    return dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=_cache(ipv6))


def by_server_name(port: int, *, ipv6: bool) -> sni_dynamic_forward_proxy_pb2.FilterConfig:
    """The network filter that looks up a TLS connection's server name, to be reached at a port."""
    return sni_dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=_cache(ipv6), port_value=port)


def _cache(ipv6: bool) -> dns_cache_pb2.DnsCacheConfig:
    family = cluster_pb2.Cluster.V6_ONLY if ipv6 else cluster_pb2.Cluster.V4_ONLY
    return dns_cache_pb2.DnsCacheConfig(name=CACHE, dns_lookup_family=family)
