"""Name tables: what a node's DNS process answers for a host."""

from __future__ import annotations

from pilotfish.api.protos import NAME_TABLE_TYPE, NameTable
from pilotfish.mesh.records import Record
from pilotfish.xds.entries import serialise


class NameSpec(Record):
    """One host for those who see it: `scope` is a namespace, or "*" for all of them.

    `shortname` and `namespace` are set for Kubernetes services, which answer to shorter names too. One with a
    `canonical` name stands for that, and has no addresses.
    """

    scope: str
    host: str
    addresses: tuple[str, ...]
    registry: str
    shortname: str = ""
    namespace: str = ""
    canonical: str = ""

    @property
    def type_url(self) -> str:
        return NAME_TABLE_TYPE

    @property
    def name(self) -> str:
        return f"{self.scope}/{self.host}"

    def body(self) -> bytes:
        table = NameTable()
        info = table.table[self.host]
        info.ips.extend(self.addresses)
        info.registry = self.registry
        info.shortname = self.shortname
        info.namespace = self.namespace
        info.canonical = self.canonical
        return serialise(table)
