"""`proxy-config clusters` (istioctl/pkg/writer/envoy/configdump: cluster.go)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilotfish.cli.proxyconfig.dump import Message, written_in
from pilotfish.cli.tables import Row

HEADER = ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"]


@dataclass(frozen=True)
class ClusterName:
    """The parts of `outbound|80|v1|reviews.default.svc.cluster.local`; a name of another form is its own host."""

    host: str
    direction: str = ""
    port: int = 0
    subset: str = ""

    @property
    def sort_key(self) -> tuple[str, str, int, str]:
        return self.host, self.subset, self.port, self.direction


def parse_name(name: str) -> ClusterName:
    """Istio: ParseSubsetKey, for either form of a name (with "|", or with "_." where it serves as an SNI)."""
    separator = "_." if name.startswith(("outbound_", "inbound_")) else "|"
    parts = name.split(separator)
    if len(parts) != 4:
        return ClusterName(name)
    direction, port, subset, host = parts
    return ClusterName(host, direction, int(port) if port.isdecimal() else 0, subset)


@dataclass(frozen=True)
class ClusterFilter:
    fqdn: str = ""
    port: int = 0
    subset: str = ""
    direction: str = ""

    def matches(self, cluster: Message) -> bool:
        name = str(cluster.get("name", ""))
        wanted = (self.fqdn, self.direction, self.subset, f"|{self.port}|" if self.port else "")
        return all(text in name for text in wanted)


def select(clusters: Iterable[Message], wanted: ClusterFilter) -> list[Message]:
    """Those that match, ordered by host, subset, port and direction."""
    return sorted(filter(wanted.matches, clusters), key=lambda cluster: parse_name(cluster["name"]).sort_key)


def table(clusters: Iterable[Message], *, named: bool = False) -> list[Row]:
    """`named`: with the kind of configuration and its full name before each."""
    rows = [["NAME", *HEADER] if named else HEADER]
    for cluster in clusters:
        name = parse_name(cluster["name"])
        parts = [str(name.port), name.subset or "-", name.direction] if name.direction else ["-", "-", "-"]
        row = [name.host, *parts, _type(cluster), written_in(cluster)]
        rows.append([f"cluster/{cluster['name']}", *row] if named else row)
    return rows


def _type(cluster: Message) -> str:
    if "cluster_type" in cluster:
        return str(cluster["cluster_type"].get("name", "")).rpartition(".")[2].upper()
    return str(cluster.get("type", "STATIC"))
