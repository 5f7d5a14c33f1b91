"""What a DNS process is told of demands: that a workload's proxy has what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Record
from pilotfish.xds.parts import Part


class GrantSpec(Record):
    """That a workload's proxy has what was asked for: a name table without a name."""

    name: str

    @property
    def type_url(self) -> str:
        return NAME_TABLE_TYPE

    def body(self) -> bytes:
        return b""


class Grants(Part):
    """The resources of demands that a DNS process has."""

    def __init__(self, resources: Iterable[str] = ()) -> None:
        super().__init__()
        for resource in resources:
            self.put(GrantSpec(resource))
        self.take_changes()

    def anew(self, model: Model) -> Grants:
        return Grants(self.entries(NAME_TABLE_TYPE))


class Asker(Protocol):
    """A connected DNS process."""

    def grant(self, resource: str) -> None:
        """Have the resource of a demand."""
        ...

    def revoke(self, resource: str) -> None:
        """Have it no more."""
        ...
