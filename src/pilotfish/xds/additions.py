"""What EnvoyFilters add to a proxy's configuration: whole listeners, clusters and configurations of extensions."""

from __future__ import annotations

from pilotfish.mesh.envoy_filters import Patch
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Record
from pilotfish.xds.entries import serialise
from pilotfish.xds.faults import held_by
from pilotfish.xds.parts import Part
from pilotfish.xds.patches.values import value_of
from pilotfish.xds.patching import ADDED


class AddedSpec(Record):
    """A resource that a patch brings along."""

    patch: Patch

    @property
    def type_url(self) -> str:
        return ADDED[self.patch.apply_to]

    @property
    def name(self) -> str:
        return str(value_of(self.patch).name)

    def body(self) -> bytes:
        return serialise(value_of(self.patch))


class Additions(Part):
    """Everything that patches add to a sidecar or a gateway as a whole; of one name the first has its way.

    An extension's configuration is asked for by its name, so that it is there for every context.
    """

    def __init__(self, patches: tuple[Patch, ...], *, gateway: bool) -> None:
        super().__init__()
        self._patches, self._gateway = patches, gateway
        with held_by(self):
            self._add()
        self.take_changes()

    def _add(self) -> None:
        contexts = ("ANY", "GATEWAY") if self._gateway else ("ANY", "SIDECAR_OUTBOUND", "SIDECAR_INBOUND")
        for patch in self._patches:
            if patch.apply_to not in ADDED or patch.operation != "ADD" or value_of(patch) is None:
                continue
            spec = AddedSpec(patch)
            meant = patch.apply_to == "EXTENSION_CONFIG" or patch.context in contexts
            if meant and spec.name not in self.entries(spec.type_url):
                self.put(spec)

    def anew(self, model: Model) -> Additions:
        return Additions(self._patches, gateway=self._gateway)
