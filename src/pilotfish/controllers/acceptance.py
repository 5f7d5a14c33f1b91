"""What is wrong with an object as it is served becomes a condition and an event on it: what Envoys refuse, with their
own words, and what a gateway cannot serve.

The condition is there only while something is wrong; one that is left from an earlier life of the control plane is
taken away until it is found again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Never

import msgspec

from pilotfish.api import kinds
from pilotfish.api.errors import NotFound
from pilotfish.api.meta import Condition, timestamp
from pilotfish.api.scheme import AnyKind
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.controllers import conditions
from pilotfish.controllers.queue import WorkQueue


@dataclass(frozen=True)
class Finding:
    """A condition that is False while something is wrong, and the reason that it and the event give."""

    condition: str
    reason: str


REFUSED = Finding("pilotfish.dev/Accepted", "RefusedByEnvoy")
UNAPPLIED = Finding("pilotfish.dev/Applied", "WithoutEffect")
UNSERVED = Finding("pilotfish.dev/Served", "NotServed")

ObjectKey = tuple[str, str, str]
"""(kind, namespace, name)."""

CONDITIONED: dict[str, AnyKind] = {
    kind.kind: kind for kind in (kinds.SERVICE, kinds.SERVICE_ENTRY, kinds.GATEWAY, kinds.ENVOY_FILTER)
}
"""Kinds that get the condition; of others only an event tells."""
KINDS = CONDITIONED | {kinds.POD.kind: kinds.POD}


class Acceptance:
    """Takes reports from code that must not wait, and writes them to the API in `run`."""

    def __init__(self, client: Client, finding: Finding = REFUSED) -> None:
        self._client = client
        self._finding = finding
        self._events = EventRecorder(client, "pilotfish-xds")
        self._queue: WorkQueue[ObjectKey] = WorkQueue("acceptance")
        self._refused: dict[ObjectKey, str] = {}
        self._told: dict[ObjectKey, str] = {}

    def report(self, key: ObjectKey, message: str | None) -> None:
        """Note what is wrong with an object, or None when nothing is any more."""
        if message is None:
            self._refused.pop(key, None)
        else:
            self._refused[key] = message
        self._queue.add(key)

    async def run(self) -> Never:
        """Write conditions and events until cancelled."""
        for kind in CONDITIONED.values():
            listing = await self._client.list(kind)
            for obj in listing.items:
                if conditions.find(obj.status.conditions, self._finding.condition) is not None:
                    self._queue.add((kind.kind, obj.namespace, obj.name))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.run())
            await self._queue.run(self._write)
        raise AssertionError("a queue runs until it is cancelled")

    async def _write(self, key: ObjectKey) -> None:
        kind, message = KINDS[key[0]], self._refused.get(key)
        try:
            obj = await self._client.get(kind, key[2], key[1])
        except NotFound:
            self._told.pop(key, None)
            return
        if message is not None and self._told.get(key) != message:
            self._events.event(obj, "Warning", self._finding.reason, message)
        self._told.pop(key, None)
        if message is not None:
            self._told[key] = message
        if kind.kind not in CONDITIONED:
            return
        current = conditions.find(obj.status.conditions, self._finding.condition)
        if (current.message if current else None) != message:
            wanted = conditions_with(obj.status.conditions, message, self._finding)
            await self._client.patch(kind, key[2], key[1], _patch(obj, wanted), subresource="status")


def conditions_with(current: tuple[Condition, ...], message: str | None, finding: Finding) -> tuple[Condition, ...]:
    """The conditions of an object with which something is wrong, or (None) nothing."""
    if message is None:
        return conditions.without(current, finding.condition)
    name, reason = finding.condition, finding.reason
    return conditions.with_condition(current, name, "False", reason, message, timestamp(), touch=True)


def _patch(obj: Any, wanted: Iterable[Condition]) -> dict[str, Any]:
    # With the version that was read: another writer's conditions are not to be lost.
    return {
        "metadata": {"resourceVersion": obj.metadata.resource_version},
        "status": {"conditions": msgspec.to_builtins(tuple(wanted))},
    }
