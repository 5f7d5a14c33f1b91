"""What is analysed: all objects at one moment, typed, and a few questions that many analyzers ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

from pilotfish.api.errors import Invalid
from pilotfish.api.kinds import CONFIG_MAP, DEPLOYMENT, POD
from pilotfish.api.meta import Object
from pilotfish.api.pods import PodSpec
from pilotfish.api.scheme import AnyKind, Kind
from pilotfish.api.selectors import matches, matches_labels
from pilotfish.mesh import meshconfig, values
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.values import Values

T = TypeVar("T", bound=Object)
R = TypeVar("R")
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Workload:
    """A pod, or the pods that a Deployment is going to make; `object` is either."""

    object: Object
    labels: Labels
    annotations: Labels
    spec: PodSpec

    @property
    def namespace(self) -> str:
        return self.object.namespace

    @property
    def name(self) -> str:
        return self.object.name


class Snapshot:
    """Objects by kind, namespace and name. Of two with one name the later counts: a file before what is stored."""

    def __init__(self, objects: Iterable[tuple[AnyKind, Object]]) -> None:
        self._objects: dict[AnyKind, dict[tuple[str, str], Object]] = {}
        for kind, obj in objects:
            self._objects.setdefault(kind, {})[obj.key] = obj

    def of(self, kind: Kind[T]) -> tuple[T, ...]:
        """All objects of a kind, by namespace and name."""
        found = self._objects.get(kind, {})
        return cast("tuple[T, ...]", tuple(found[key] for key in sorted(found)))

    def find(self, kind: Kind[T], namespace: str, name: str) -> T | None:
        return cast("T | None", self._objects.get(kind, {}).get((namespace, name)))

    def every(self) -> Iterator[tuple[AnyKind, Object]]:
        """All objects with their kinds."""
        for kind, found in self._objects.items():
            for obj in found.values():
                yield kind, obj

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """Pods, and what Deployments that have none yet are going to make."""
        pods = [Workload(pod, pod.metadata.labels, pod.metadata.annotations, pod.spec) for pod in self.of(POD)]
        found = list(pods)
        for deployment in self.of(DEPLOYMENT):
            selector, template = deployment.spec.selector, deployment.spec.template
            if not any(pod.namespace == deployment.namespace and matches(selector, pod.labels) for pod in pods):
                about = template.metadata
                found.append(Workload(deployment, about.labels, about.annotations, template.spec))
        return tuple(found)

    def selected(self, wanted: Labels, namespace: str | None = None) -> list[Workload]:
        """The workloads that have all of the labels, in a namespace or in all of them; none where none are wanted."""
        return [
            workload
            for workload in self.workloads
            if namespace in (None, workload.namespace) and matches_labels(wanted, workload.labels)
        ]

    @cached_property
    def mesh(self) -> MeshConfig:
        """The mesh's configuration; the defaults where there is none, or one that cannot be read."""
        text = self._entry(meshconfig.CONFIG_MAP, meshconfig.CONFIG_MAP_KEY)
        return _readable(meshconfig.read_mesh_config, text or "") or MeshConfig()

    @cached_property
    def values(self) -> Values | None:
        """What pods are injected with; None where nothing was installed, or it cannot be read."""
        text = self._entry(values.CONFIG_MAP, values.CONFIG_MAP_KEY)
        return None if text is None else _readable(values.read_values, text)

    def _entry(self, name: str, key: str) -> str | None:
        config_map = self.find(CONFIG_MAP, meshconfig.ROOT_NAMESPACE, name)
        return None if config_map is None else config_map.data.get(key, "")


def _readable(read: Callable[[str], R], text: str) -> R | None:
    try:
        return read(text)
    except Invalid:
        return None
