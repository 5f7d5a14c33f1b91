"""Events are kept for an hour, as a Kubernetes API server does (its flag --event-ttl)."""

from __future__ import annotations

import datetime as dt

from pilotfish.api.core import Event
from pilotfish.api.errors import Conflict, NotFound
from pilotfish.api.kinds import EVENT
from pilotfish.api.meta import parse_timestamp
from pilotfish.client.client import Client
from pilotfish.client.informer import Change, ObjectKey
from pilotfish.client.informers import Informers
from pilotfish.controllers.queue import WorkQueue

KEPT_SECONDS = 3600.0


def expires_in(event: Event, now: dt.datetime) -> float:
    """Seconds until an event may go, counted from when it was last told; not more than 0 when it may."""
    told = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    if told is None:
        return KEPT_SECONDS
    return KEPT_SECONDS - (now - parse_timestamp(told)).total_seconds()


class EventExpiry:
    """Deletes events that are old."""

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self.queue: WorkQueue[ObjectKey] = WorkQueue("event-expiry")
        self._events = informers.informer(EVENT)
        self._events.subscribe(self._changed)

    def _changed(self, change: Change[Event]) -> None:
        if change.old is None and change.new is not None:
            self.queue.add(change.key)

    async def reconcile(self, key: ObjectKey) -> float | None:
        event = self._events.objects.get(key)
        if event is None:
            return None
        left = expires_in(event, dt.datetime.now(dt.UTC))
        if left > 0:
            return left
        try:
            await self._client.delete(EVENT, event.name, event.namespace, uid=event.metadata.uid)
        except (NotFound, Conflict):
            return None
        return None
