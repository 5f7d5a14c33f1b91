"""`proxy-config endpoints`: what Envoy makes of its endpoints, from `/clusters`, and what it was told, from a dump.

(istioctl/pkg/writer/envoy/clusters, and configdump: endpoint.go)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.cli.proxyconfig.clusters import parse_name
from pilotfish.cli.proxyconfig.dump import DumpError, Message, address_of, port_of
from pilotfish.cli.tables import Row

HEADER = ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]
ASSIGNED_HEADER = ["NAME", "STATUS", "LOCALITY", "CLUSTER"]
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class EndpointFilter:
    """`address` is an IP address or path; for what Envoy was told also with its port."""

    address: str = ""
    port: int = 0
    cluster: str = ""
    status: str = ""

    def matches(self, addresses: Sequence[str], port: int, cluster: str, status: str) -> bool:
        return (
            (not self.address or self.address.lower() in map(str.lower, addresses))
            and self.port in (0, port)
            and self.cluster.lower() in ("", cluster.lower())
            and self.status.lower() in ("", status.lower())
        )


def parse_clusters(text: bytes) -> list[Message]:
    """Cluster statuses from Envoy's answer to `/clusters?format=json`. Raises DumpError."""
    try:
        document: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise DumpError(f"this is not what an Envoy answers to /clusters?format=json: {error}") from error
    if "configs" in document:
        raise DumpError("this is a configuration dump: endpoints are in what Envoy answers to /clusters?format=json")
    return list(document.get("cluster_statuses", ()))


def select(clusters: Iterable[Message], wanted: EndpointFilter) -> list[Message]:
    """The cluster statuses that have an endpoint that matches, each with all of its endpoints."""
    return [cluster for cluster in clusters if any(_matching(cluster, wanted))]


def table(clusters: Iterable[Message], wanted: EndpointFilter) -> list[Row]:
    """The endpoints that match, ordered by address, port and cluster."""
    found = [(host, cluster["name"]) for cluster in clusters for host in _matching(cluster, wanted)]

    def order(one: tuple[Message, str]) -> tuple[str, int, str]:
        address = one[0].get("address", {})
        return _address(address), port_of(address), one[1]

    return [HEADER, *([*_status_row(host), name] for host, name in sorted(found, key=order))]


def _matching(cluster: Message, wanted: EndpointFilter) -> Iterator[Message]:
    for host in cluster.get("host_statuses", ()):
        address = host.get("address", {})
        if wanted.matches([_address(address)], port_of(address), cluster.get("name", ""), _health(host)):
            yield host


def _address(address: Message) -> str:
    return f"unix://{address_of(address)}" if "pipe" in address else address_of(address)


def _health(host: Message) -> str:
    return str(host.get("health_status", {}).get("eds_health_status", UNKNOWN))


def _status_row(host: Message) -> Row:
    address = host.get("address", {})
    port = port_of(address)
    endpoint = f"{_address(address)}:{port}" if port else _address(address)
    failed = host.get("health_status", {}).get("failed_outlier_check")
    return [endpoint, _health(host), "FAILED" if failed else "OK"]


def select_assigned(assignments: Iterable[Message], wanted: EndpointFilter) -> list[Message]:
    """Load assignments with the endpoints that match, without those that have none, ordered as clusters are."""
    found = [assignment for one in assignments if (assignment := _only_matching(one, wanted)) is not None]
    return sorted(found, key=lambda one: parse_name(one.get("cluster_name", "")).sort_key)


def assigned_table(assignments: Iterable[Message], *, named: bool = False) -> list[Row]:
    """`named`: with the kind of configuration before each."""
    prefix = "endpoint/" if named else ""
    rows = [ASSIGNED_HEADER]
    for assignment in assignments:
        for group in assignment.get("endpoints", ()):
            locality = group.get("locality", {})
            place = "/".join(filter(None, (locality.get(part, "") for part in ("region", "zone", "sub_zone"))))
            rows += [
                [f"{prefix}{','.join(_all_addresses(one))}", _assigned_health(one), place, assignment["cluster_name"]]
                for one in group.get("lb_endpoints", ())
            ]
    return rows


def _only_matching(assignment: Message, wanted: EndpointFilter) -> Message | None:
    name = assignment.get("cluster_name", "")
    groups = []
    for group in assignment.get("endpoints", ()):
        kept = [
            one
            for one in group.get("lb_endpoints", ())
            if wanted.matches(_all_addresses(one), _assigned_port(one), name, _assigned_health(one))
        ]
        groups.append({**group, "lb_endpoints": kept})
    return {**assignment, "endpoints": groups} if any(group["lb_endpoints"] for group in groups) else None


def _assigned_health(endpoint: Message) -> str:
    return str(endpoint.get("health_status", UNKNOWN))


def _assigned_port(endpoint: Message) -> int:
    return port_of(endpoint.get("endpoint", {}).get("address", {}))


def _all_addresses(endpoint: Message) -> list[str]:
    within = endpoint.get("endpoint", {})
    found = [within.get("address", {}), *(one.get("address", {}) for one in within.get("additional_addresses", ()))]
    return [
        f"{address_of(address)}:{port_of(address)}" if "socket_address" in address else address_of(address) or "unknown"
        for address in found
    ]
