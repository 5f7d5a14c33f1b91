"""How a cluster is used: what DestinationRules and the mesh say of it, as one part of its spec."""

from __future__ import annotations

from pilotfish.api.networking.connection_pool import ConnectionPoolSettings, TcpKeepalive
from pilotfish.api.networking.destination_rule import OutlierDetection, RetryBudget
from pilotfish.api.networking.load_balancer import LoadBalancerSettings
from pilotfish.mesh.locality import Zones
from pilotfish.mesh.records import Record
from pilotfish.xds.build.mutual_tls import MutualTls
from pilotfish.xds.build.upstream_tls import Origination


class ClusterPolicy(Record):
    """`tcp_keepalive` is the mesh's, for what the pool does not say of it. `load_balancer` is without what is said of
    localities, which shapes load assignments. `proxy_header` is the version of the PROXY protocol ("V1", "V2"), or "".
    `buffer_limit` is in bytes; `preserve_case`: HTTP/1 headers leave in the letters in which they came; `hides_peer`:
    servers are not told who the workload is.
    """

    connection_pool: ConnectionPoolSettings = ConnectionPoolSettings()
    outlier_detection: OutlierDetection | None = None
    retry_budget: RetryBudget | None = None
    tcp_keepalive: TcpKeepalive | None = None
    load_balancer: LoadBalancerSettings = LoadBalancerSettings()
    weighted_localities: bool = False
    zones: Zones | None = None
    tls: Origination | MutualTls | None = None
    proxy_header: str = ""
    buffer_limit: int | None = None
    preserve_case: bool = False
    hides_peer: bool = False


NO_POLICY = ClusterPolicy()
