"""The life of a workload that joins the mesh from outside any pod: what Istio's agent does on a virtual machine.

The workload's *front* is a pod of this node with its proxy and nothing else. Either the workload's command runs in the
front's network, where its traffic is captured and names are the mesh's; or the workload is a process that runs anyway,
and what comes for it at the front's address goes on to where it listens. Nothing of the host's own traffic is touched.

This process registers the workload and checks its health. When it ends, however it does, the workload has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pilotfish
from pilotfish.api.errors import AlreadyExists, ApiError, NotFound
from pilotfish.api.kinds import POD, WORKLOAD_ENTRY, WORKLOAD_GROUP
from pilotfish.api.meta import Document
from pilotfish.api.networking import WorkloadGroup
from pilotfish.api.pods import Pod
from pilotfish.client.client import Client
from pilotfish.home import Home
from pilotfish.node import joined, leases, proxy
from pilotfish.node.meshnetwork import HOST_LOOPBACK, MeshNetwork
from pilotfish.node.netns import path_of
from pilotfish.node.nodecontext import Attachment
from pilotfish.node.podsandbox import watch_network
from pilotfish.node.runtime import PodGone
from pilotfish.node.sandbox import PodFolder
from pilotfish.node.workloadhealth import Checked, Reporter, check

T = TypeVar("T")

FRONT_SECONDS = 60.0
"""How long the front may take to be ready."""

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.1
_ENTER = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from pilotfish.node.supervisor.enter import main; main(sys.argv[2], sys.argv[3], sys.argv[4:])"
)  # fmt: skip
_SOURCE = str(Path(pilotfish.__file__).parent.parent)


class JoinError(Exception):
    """The workload cannot join, or cannot stay; the text says why."""


@dataclass(frozen=True)
class Wanted:
    """Which group to join as what: a command to run, or (none) the process that listens at `address` already."""

    namespace: str
    group: str
    command: tuple[str, ...] = ()
    address: str = LOOPBACK


async def join(home: Home, client: Client, wanted: Wanted, say: Callable[[str], None]) -> int:
    """Join, stay until the command ends or SIGTERM or SIGINT comes, and leave; gives the exit status.

    `say` gets a line for each thing that the user would want to know. Raises JoinError, and ApiError.
    """
    group = await client.get(WORKLOAD_GROUP, wanted.group, wanted.namespace)
    with leases.hold(home) as holder, _signals() as signals:
        async with _front(client, group, joined.front(group, holder, _seen_from_front(wanted))) as created:
            pod = await _unless(signals, _ready(client, created))
            if pod is None:
                return 128 + signal.SIGINT
            entry = joined.entry(group, pod)
            async with _registered(client, entry, wanted.namespace):
                place = f"at {pod.status.pod_ip}, as {wanted.namespace}/{entry['metadata']['name']}"
                say(f"joined {wanted.namespace}/{wanted.group} {place}")
                return await _Workload(home, pod, wanted).stay(client, group, entry, signals, say)


def _seen_from_front(wanted: Wanted) -> str | None:
    """Where the front's proxy finds the workload; None for at its own address."""
    if wanted.command:
        return None
    return HOST_LOOPBACK if wanted.address == LOOPBACK else wanted.address


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Queue[signal.Signals]]:
    """The signals that ask for the end, as they come."""
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[signal.Signals] = asyncio.Queue()
    ours = (signal.SIGTERM, signal.SIGINT)
    for number in ours:
        loop.add_signal_handler(number, came.put_nowait, number)
    try:
        yield came
    finally:
        for number in ours:
            loop.remove_signal_handler(number)


async def _unless(signals: asyncio.Queue[signal.Signals], work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives; None when a signal comes before it is done."""
    working, asked = asyncio.ensure_future(work), asyncio.ensure_future(signals.get())
    try:
        await asyncio.wait((working, asked), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        asked.cancel()
        working.cancel()


@contextlib.asynccontextmanager
async def _front(client: Client, group: WorkloadGroup, document: Document) -> AsyncIterator[Pod]:
    pod = await client.create(POD, document, group.namespace)
    try:
        yield pod
    finally:
        await _delete(client.delete(POD, pod.name, pod.namespace, uid=pod.metadata.uid))


async def _ready(client: Client, pod: Pod) -> Pod:
    if proxy.proxy_container(pod) is None:
        raise JoinError(f"no proxy is injected into pods of namespace {pod.namespace}: look at its labels")
    deadline = asyncio.get_running_loop().time() + FRONT_SECONDS
    while not pod.ready:
        if asyncio.get_running_loop().time() > deadline:
            hint = f"see `kubectl describe pod {pod.name} -n {pod.namespace}` and its log"
            raise JoinError(f"the workload's proxy is not ready after {FRONT_SECONDS:g} seconds: {hint}")
        await asyncio.sleep(_POLL_SECONDS)
        try:
            pod = await client.get(POD, pod.name, pod.namespace)
        except NotFound:
            raise JoinError("somebody deleted the pod of the workload's proxy") from None
    return pod


@contextlib.asynccontextmanager
async def _registered(client: Client, entry: Document, namespace: str) -> AsyncIterator[None]:
    name = entry["metadata"]["name"]
    try:
        await client.create(WORKLOAD_ENTRY, entry, namespace)
    except AlreadyExists:  # of an earlier workload that had this address, and is about to be collected
        await _delete(client.delete(WORKLOAD_ENTRY, name, namespace))
        await client.create(WORKLOAD_ENTRY, entry, namespace)
    try:
        yield
    finally:
        await _delete(client.delete(WORKLOAD_ENTRY, name, namespace))


async def _delete(deletion: Coroutine[Any, Any, None]) -> None:
    """What cannot be deleted now goes when the node agent finds that we are gone."""
    with contextlib.suppress(ApiError):
        await deletion


class _Workload:
    """A workload whose front is ready."""

    def __init__(self, home: Home, pod: Pod, wanted: Wanted) -> None:
        self._pod = pod
        self._wanted = wanted
        self._netns = path_of(MeshNetwork.of(home).pod_netns(pod.metadata.uid))
        self._folder = PodFolder(home.pods / pod.metadata.uid)

    async def stay(
        self,
        client: Client,
        group: WorkloadGroup,
        entry: Document,
        signals: asyncio.Queue[signal.Signals],
        say: Callable[[str], None],
    ) -> int:
        """Until the workload ends or is asked to; gives the exit status. Raises JoinError when its front is gone."""
        async with asyncio.TaskGroup() as tasks:
            checking: list[asyncio.Task[None]] = []
            probe = joined.probe(group)
            if probe is not None:
                reporter = Reporter(client, entry, group.namespace, say)
                checking = [
                    tasks.create_task(check(self._checked(), probe, reporter.tell)),
                    tasks.create_task(reporter.run()),
                ]
            gone = tasks.create_task(self._front_gone())
            ended = tasks.create_task(self._ended(signals))
            await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
            for task in (*checking, gone, ended):
                task.cancel()
        if ended.cancelled():
            raise JoinError("the pod of the workload's proxy is gone")
        return ended.result()

    async def _front_gone(self) -> None:
        with contextlib.suppress(PodGone):
            await watch_network(Attachment(self._pod.status.pod_ip, self._netns))

    async def _ended(self, signals: asyncio.Queue[signal.Signals]) -> int:
        """The exit status of the command; 0 once a signal comes where there is none."""
        if not self._wanted.command:
            await signals.get()
            return 0
        process = await asyncio.create_subprocess_exec(*self._entering(), *self._wanted.command)
        passing = asyncio.ensure_future(_pass_on(signals, process))
        try:
            code = await process.wait()
        finally:
            passing.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        return 128 - code if code < 0 else code

    def _checked(self) -> Checked:
        container = proxy.proxy_container(self._pod)
        assert container is not None, "a front is a proxy"
        outside = not self._wanted.command
        address = self._wanted.address if outside else self._pod.status.pod_ip
        return Checked(self._pod, container, self._netns, address, outside, self._start_check)

    async def _start_check(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        enter = self._entering() if self._wanted.command else ()
        pipe, out = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        return await asyncio.create_subprocess_exec(*enter, *command, stdout=pipe, stderr=out)

    def _entering(self) -> tuple[str, ...]:
        """What a command is put behind to run in the front's network."""
        return sys.executable, "-I", "-S", "-c", _ENTER, _SOURCE, str(self._netns), str(self._folder.path)


async def _pass_on(signals: asyncio.Queue[signal.Signals], process: asyncio.subprocess.Process) -> None:
    while True:
        number = await signals.get()
        # A terminal has sent its Ctrl-C to the command too.
        if number is not signal.SIGINT or not os.isatty(0):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
