"""What the agent remembers of a pod between two lives of its own: `pod.json` in the pod's folder."""

from __future__ import annotations

import msgspec

from pilotfish.api.pods import ContainerStateTerminated
from pilotfish.node.sandbox import PodFolder, write_private


class ContainerMemory(msgspec.Struct, frozen=True):
    """How often a container was started again, and how its run before the present one ended."""

    restarts: int = 0
    last: ContainerStateTerminated | None = None
    image_id: str = ""


class PodRecord(msgspec.Struct, frozen=True):
    """A pod that has a folder. `ip` is "" until it has a network."""

    namespace: str
    name: str
    uid: str
    started_at: str
    ip: str = ""
    host_network: bool = False
    containers: dict[str, ContainerMemory] = {}


def load(folder: PodFolder) -> PodRecord | None:
    """The record, or None where there is none that can be read."""
    try:
        return msgspec.json.decode(folder.record.read_bytes(), type=PodRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save(folder: PodFolder, record: PodRecord) -> None:
    write_private(folder.record, msgspec.json.encode(record))
