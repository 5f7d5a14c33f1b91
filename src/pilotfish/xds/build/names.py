"""The names that Istio gives to clusters, listeners and virtual hosts, which its users and tools know."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from pilotfish.mesh.reporting import Collector

BLACK_HOLE = "BlackHoleCluster"
PASSTHROUGH = "PassthroughCluster"
DYNAMIC_DNS = "AllowAnyDynamicDNSCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
PASSTHROUGH_CHAIN = "PassthroughFilterChain"
VIRTUAL_OUTBOUND = "virtualOutbound"
HTTP_PROXY = "http_proxy"
"""The routes of the port at which a proxy takes requests as HTTP proxies do."""
VIRTUAL_INBOUND = "virtualInbound"
ALLOW_ANY = "allow_any"
ALLOW_ANY_DYNAMIC_DNS = "allow_any_dynamic_dns"
BLOCK_ALL = "block_all"

WORKLOAD_METADATA = "pilotfish.workload"
"""Where an endpoint's metadata says what its workload is called in metrics."""
SERVICE_METADATA = "pilotfish.service"
"""Where a cluster's metadata says what its service is called in metrics."""

SECURITY_METADATA = "pilotfish.security"
"""Where a cluster's metadata says by which protocols requests are told from bytes."""


def outbound(port: int, host: str, subset: str = "", *, udp: bool = False) -> str:
    """The cluster of a host's port, or of a subset of it, e.g. "outbound|80|v1|web.default.svc.cluster.local".

    Istio has none for UDP.
    """
    return f"{'outbound_udp' if udp else 'outbound'}|{port}|{subset}|{host}"


def server_name(cluster: str) -> str:
    """The server name by which sidecars ask for a cluster, "outbound_.80_._.web.default.svc.cluster.local".

    Istio: BuildDNSSrvSubsetKey.
    """
    return cluster.replace("|", "_.")


def leading_to(collector: Collector) -> str:
    """The cluster of what takes reports in: of a host's port, or of the proxy's own bootstrap."""
    return collector.cluster or outbound(collector.port, collector.host)


def host_of(cluster: str) -> str:
    """The host of an outbound cluster, in lower case."""
    return cluster.rpartition("|")[2].lower()


class Destination(NamedTuple):
    """An address and port for which a proxy asks, in a period of time ("20240131"; "" where periods do not matter)."""

    address: str
    port: int
    period: str = ""

    @property
    def cluster(self) -> str:
        """The name of the cluster that stands for it."""
        return f"outbound|{self.port}|{self.period}|{self.address}"


def destination(cluster: str) -> Destination | None:
    """What a cluster stands for that is named by an address and port (`destination_format`); None for other names."""
    kind, _, rest = cluster.partition("|")
    port, _, rest = rest.partition("|")
    period, _, address = rest.partition("|")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    if kind != "outbound" or not port.isdecimal() or not (period == "" or period.isdecimal()):
        return None
    return Destination(address, int(port), period)


def destination_format(period: str) -> str:
    """Envoy's format of the cluster for a connection's address and port, as in "outbound|80|20240131|10.0.0.1".

    `period` is how the name changes with time, as strftime has it.
    """
    when = f"%START_TIME({period})%" if period else ""
    return f"outbound|%DOWNSTREAM_LOCAL_PORT%|{when}|%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"


def counted(cluster: str) -> str:
    """A cluster's name as Envoy's statistics have it."""
    return cluster.replace(":", "_")


def inbound(port: int) -> str:
    """The cluster of a workload's own port, e.g. "inbound|8080||"."""
    return f"inbound|{port}||"


def listener(address: str, port: int) -> str:
    """An outbound listener, e.g. "0.0.0.0_80"; `port` 0 leaves the port out as Istio does."""
    return f"{address}_{port}"


def stat(name: str) -> str:
    """A name in statistics: the delimiter at its end lets tag expressions find where it ends, whatever is in it."""
    return f"{name};"
