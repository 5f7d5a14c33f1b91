"""Sidecars and Telemetries: at most one of a kind may select a pod, and one of a namespace all of its pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pilotfish.analysis import messages
from pilotfish.analysis.messages import Message, MessageType, Path
from pilotfish.analysis.snapshot import Snapshot, Workload
from pilotfish.api.kinds import SIDECAR, TELEMETRY
from pilotfish.api.meta import Object
from pilotfish.api.networking import Sidecar
from pilotfish.api.scheme import Kind
from pilotfish.api.telemetry import Telemetry

T = TypeVar("T", bound=Object)


def selector_text(labels: Mapping[str, str]) -> str:
    """Labels as a selector is written, e.g. "app=web,tier=front"."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


@dataclass(frozen=True)
class Selecting(Generic[T]):
    """A kind whose objects select workloads of their namespace by labels. `path` is where the labels stand."""

    kind: Kind[T]
    labels: Callable[[T], Mapping[str, str]]
    path: Path
    conflict: MessageType
    several: MessageType

    def selectors(self, snapshot: Snapshot) -> Iterator[Message]:
        """Selectors that select nobody, and pods that several select."""
        holders: dict[tuple[str, str], list[T]] = {}
        pods: dict[tuple[str, str], Workload] = {}
        for obj in snapshot.of(self.kind):
            labels = self.labels(obj)
            if not labels:
                continue
            found = snapshot.selected(labels, obj.namespace)
            if not found:
                at = (*self.path, sorted(labels)[0])
                yield messages.REFERENCED_RESOURCE_NOT_FOUND.about(obj, "selector", selector_text(labels), at=at)
            for workload in found:
                pods[workload.object.key] = workload
                holders.setdefault(workload.object.key, []).append(obj)
        for key, objects in holders.items():
            if len(objects) > 1:
                names = sorted(obj.name for obj in objects)
                for obj in objects:
                    about = names, obj.namespace, pods[key].name
                    yield self.conflict.about(obj, *about, at=("metadata", "name"))

    def for_all(self, snapshot: Snapshot) -> Iterator[Message]:
        """Namespaces of which several select every pod."""
        for obj in snapshot.of(self.kind):
            names = [
                other.name
                for other in snapshot.of(self.kind)
                if other.namespace == obj.namespace and not self.labels(other)
            ]
            if not self.labels(obj) and len(names) > 1:
                yield self.several.about(obj, sorted(names), obj.namespace)


def _sidecar_labels(obj: Sidecar) -> Mapping[str, str]:
    return obj.spec.workload_selector.labels if obj.spec.workload_selector is not None else {}


def _telemetry_labels(obj: Telemetry) -> Mapping[str, str]:
    return obj.spec.selector.match_labels if obj.spec.selector is not None else {}


SIDECARS = Selecting(
    SIDECAR,
    _sidecar_labels,
    ("spec", "workloadSelector", "labels"),
    messages.CONFLICTING_SIDECAR_SELECTORS,
    messages.MULTIPLE_SIDECARS_WITHOUT_SELECTOR,
)
TELEMETRIES = Selecting(
    TELEMETRY,
    _telemetry_labels,
    ("spec", "selector", "matchLabels"),
    messages.CONFLICTING_TELEMETRY_SELECTORS,
    messages.MULTIPLE_TELEMETRIES_WITHOUT_SELECTOR,
)


def sidecars(snapshot: Snapshot) -> Iterator[Message]:
    """Both, of Sidecars."""
    yield from SIDECARS.selectors(snapshot)
    yield from SIDECARS.for_all(snapshot)
