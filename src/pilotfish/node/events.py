"""Events about pods, as `kubectl describe` shows them: repeated ones are counted, and none holds anything up."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Literal

from pilotfish.api.core import Pod
from pilotfish.api.errors import ApiError, NotFound
from pilotfish.api.kinds import EVENT
from pilotfish.api.meta import Document, timestamp
from pilotfish.client.client import Client

log = logging.getLogger(__name__)

COMPONENT = "kubelet"
"""The name that Kubernetes' node agent signs with."""

MAX_WAITING = 1000
MAX_REMEMBERED = 1000

Severity = Literal["Normal", "Warning"]


@dataclass(frozen=True)
class _Happening:
    namespace: str
    pod: str
    uid: str
    field_path: str
    type: Severity
    reason: str
    message: str


class Recorder:
    """Takes events at any time and writes them in order while `run` does. Those that the API does not take are lost."""

    def __init__(self, client: Client, node_name: str) -> None:
        self._client = client
        self._node = node_name
        self._waiting: asyncio.Queue[_Happening] = asyncio.Queue(MAX_WAITING)
        self._written: dict[_Happening, tuple[str, int]] = {}

    def record(self, pod: Pod, type: Severity, reason: str, message: str, *, container: str = "") -> None:
        """Note an event about a pod, or about one of its containers."""
        path = f"spec.containers{{{container}}}" if container else ""
        try:
            self._waiting.put_nowait(_Happening(pod.namespace, pod.name, pod.metadata.uid, path, type, reason, message))
        except asyncio.QueueFull:
            log.warning("too many events: %s of pod %s/%s is lost: %s", reason, pod.namespace, pod.name, message)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            happening = await self._waiting.get()
            try:
                await self._write(happening)
            except ApiError as error:
                level = logging.DEBUG if error.caused_by("NamespaceTerminating") else logging.INFO
                log.log(level, "event %s of pod %s/%s: %s", happening.reason, happening.namespace, happening.pod, error)

    async def _write(self, happening: _Happening) -> None:
        now = timestamp()
        if happening in self._written:
            name, count = self._written[happening]
            patch: Document = {"count": count + 1, "lastTimestamp": now}
            try:
                await self._client.patch(EVENT, name, happening.namespace, patch)
            except NotFound:
                del self._written[happening]  # it has expired: a new one begins
            else:
                self._written[happening] = (name, count + 1)
                return
        name = f"{happening.pod}.{time.time_ns():x}"
        document: Document = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": happening.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": happening.namespace,
                "name": happening.pod,
                "uid": happening.uid,
                **({"fieldPath": happening.field_path} if happening.field_path else {}),
            },
            "type": happening.type,
            "reason": happening.reason,
            "message": happening.message,
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._client.create(EVENT, document, happening.namespace)
        if len(self._written) >= MAX_REMEMBERED:
            del self._written[next(iter(self._written))]
        self._written[happening] = (name, 1)
