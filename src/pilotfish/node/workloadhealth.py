"""The health of a workload that has joined: checked as its group says, and told in its WorkloadEntry's condition."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilotfish.api.errors import ApiError, Conflict, NotFound
from pilotfish.api.kinds import WORKLOAD_ENTRY
from pilotfish.api.meta import Document, timestamp
from pilotfish.api.pods import Container, Pod, Probe
from pilotfish.client.backoff import backoff
from pilotfish.client.client import Client
from pilotfish.node import joined, probes, proxy
from pilotfish.node.probes import Outcome, Target

log = logging.getLogger(__name__)

Starter = Callable[[Sequence[str]], Awaitable[asyncio.subprocess.Process]]
"""Starts a command whose output is to be read, where the workload runs."""


@dataclass(frozen=True)
class Checked:
    """What is checked. `front` is the pod of its proxy, in the network at `netns`; the workload is at `address` there,
    or on the host's network where it is `outside`.
    """

    front: Pod
    container: Container
    netns: Path
    address: str
    outside: bool
    start: Starter


async def check(checked: Checked, probe: Probe, tell: Callable[[bool, str], None]) -> None:
    """Check until cancelled; `tell` hears of each verdict, with the reason of a bad one.

    Healthy is a workload whose proxy is ready too (Istio: AggregateProber).
    """
    reason = ""

    def failed(message: str) -> None:
        nonlocal reason
        reason = message

    async def attempt(timeout: float) -> Outcome:
        front = Target(checked.container, checked.front.status.pod_ip, checked.netns, run)
        outcome = await probes.attempt(front, Probe(http_get=proxy.ready_action()), timeout)
        if not outcome.success:
            return Outcome(False, f"the proxy is not ready: {outcome.message}")
        network = None if checked.outside else checked.netns
        return await probes.attempt(Target(checked.container, checked.address, network, run), probe, timeout)

    async def run(command: Sequence[str]) -> tuple[int, str]:
        process = await checked.start(command)
        try:
            output, _ = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # one that takes longer than it may
        return process.returncode or 0, output.decode(errors="replace")

    def verdict(healthy: bool) -> None:
        tell(healthy, "" if healthy else reason)

    await probes.watch(probe, attempt, verdict, failed, eager=True)


class Reporter:
    """Writes the newest verdict into the condition of a WorkloadEntry, for as long as `run` runs."""

    def __init__(self, client: Client, entry: Document, namespace: str, say: Callable[[str], None]) -> None:
        """`entry` is made again when somebody deletes it, since the workload is still there."""
        self._client = client
        self._entry = entry
        self._name: str = entry["metadata"]["name"]
        self._namespace = namespace
        self._say = say
        self._newest = (False, "")
        self._news = asyncio.Event()

    def tell(self, healthy: bool, reason: str) -> None:
        self._newest = (healthy, reason)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled; what the API does not take is tried again."""
        delays = backoff()
        while True:
            await self._news.wait()
            self._news.clear()
            healthy, reason = self._newest
            try:
                await self._write(healthy, reason)
            except ApiError as error:
                log.warning("health of %s/%s: %s", self._namespace, self._name, error)
                self._news.set()
                await asyncio.sleep(next(delays))
                continue
            delays = backoff()
            self._say(f"{self._name} is {'healthy' if healthy else f'not healthy: {reason}'}")

    async def _write(self, healthy: bool, reason: str) -> None:
        while True:
            try:
                entry = await self._client.get(WORKLOAD_ENTRY, self._name, self._namespace)
            except NotFound:
                entry = await self._client.create(WORKLOAD_ENTRY, self._entry, self._namespace)
            conditions = joined.with_health(entry.status.conditions, healthy, reason, timestamp())
            patch = {
                # With the version that was read: another writer's conditions are not to be lost.
                "metadata": {"resourceVersion": entry.metadata.resource_version},
                "status": {"conditions": msgspec.to_builtins(conditions)},
            }
            try:
                await self._client.patch(WORKLOAD_ENTRY, self._name, self._namespace, patch, subresource="status")
            except Conflict:
                continue
            return
