"""Writing core/v1 Events: what `kubectl describe` and `kubectl get events` show (client-go tools/record).

The same event told again raises the count of the first one instead of making another.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, Never

from pilotfish.api.errors import ApiError, NotFound
from pilotfish.api.kinds import EVENT, SCHEME
from pilotfish.api.meta import Document, Object, timestamp
from pilotfish.api.scheme import AnyKind
from pilotfish.client.client import Client

log = logging.getLogger(__name__)

REMEMBERED = 4096
"""How many different events are remembered, to be counted when they come again."""
WAITING = 1000
"""How many events wait to be written; when the server is away for long, the oldest are lost."""

LONGEST = 1024
"""Characters of a message that are kept, as Kubernetes does."""

EventType = Literal["Normal", "Warning"]

_KINDS: dict[type[Object], AnyKind] = {kind.type: kind for kind in SCHEME}


@dataclass(frozen=True, slots=True)
class _Told:
    """One event as it was told: equal ones are counted."""

    kind: AnyKind
    namespace: str
    name: str
    uid: str
    type: EventType
    reason: str
    message: str
    field_path: str = ""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Where an event was written, and how often it was told."""

    name: str
    count: int


class EventRecorder:
    """Takes events from code that must not wait, and writes them one after the other in `run`.

    `component` and `host` are the source that is shown, e.g. "deployment-controller".
    """

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host
        self._waiting: asyncio.Queue[tuple[_Told, str]] = asyncio.Queue(WAITING)
        self._recorded: OrderedDict[_Told, _Recorded] = OrderedDict()

    def event(self, obj: Object, type: EventType, reason: str, message: str, *, field_path: str = "") -> None:
        """Tell of an object, or (`field_path`, e.g. "spec.containers{web}") of a part of it. Never waits or raises."""
        kind = _KINDS[builtins.type(obj)]
        about = obj.metadata
        told = _Told(kind, about.namespace, about.name, about.uid, type, reason, message[:LONGEST], field_path)
        if self._waiting.full():
            lost, _ = self._waiting.get_nowait()
            log.warning("too many events wait: lost %s of %r %s", lost.reason, lost.kind, lost.name)
        self._waiting.put_nowait((told, timestamp()))

    async def run(self) -> Never:
        """Write events until cancelled. An event that the server refuses is logged and lost."""
        while True:
            told, moment = await self._waiting.get()
            try:
                await self._write(told, moment)
            except ApiError as error:
                log.debug("event %s of %r %s was not written: %s", told.reason, told.kind, told.name, error)

    async def _write(self, told: _Told, moment: str) -> None:
        namespace = told.namespace or "default"
        before = self._recorded.pop(told, None)
        if before is not None:
            again = {"count": before.count + 1, "lastTimestamp": moment}
            try:
                await self._client.patch(EVENT, before.name, namespace, again)
                self._remember(told, _Recorded(before.name, before.count + 1))
                return
            except NotFound:
                log.debug("event %s is gone: writing it anew", before.name)
        name = f"{told.name}.{time.time_ns():x}"
        await self._client.create(EVENT, self._document(told, name, namespace, moment), namespace)
        self._remember(told, _Recorded(name, 1))

    def _remember(self, told: _Told, recorded: _Recorded) -> None:
        self._recorded[told] = recorded
        if len(self._recorded) > REMEMBERED:
            self._recorded.popitem(last=False)

    def _document(self, told: _Told, name: str, namespace: str, moment: str) -> Document:
        involved = {
            "kind": told.kind.kind,
            "apiVersion": told.kind.api_version,
            "namespace": told.namespace,
            "name": told.name,
            "uid": told.uid,
            "fieldPath": told.field_path,
        }
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {k: v for k, v in involved.items() if v},
            "reason": told.reason,
            "message": told.message,
            "type": told.type,
            "source": {"component": self._component, **({"host": self._host} if self._host else {})},
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
