"""What the size of the mesh costs the whole control plane: one endpoint change, memory, a start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.charts import Chart, Series, point
from benchmarks.fleet import fleet
from benchmarks.meshes import Event, Mesh
from benchmarks.plane import ControlPlane, control_plane, fill, send, temporary_home
from benchmarks.report import Figure, Section, percentile
from benchmarks.scale import SCOPE, SHARED_CLUSTER
from benchmarks.topic import Options, log
from pilotfish.home import Home
from pilotfish.xds.source import ENDPOINT

SIZES = (100, 1_000, 10_000)
PROXIES = 10
WARM_UP = 20


@dataclass
class Found:
    """Of one size, a value each round: seconds of waiting and of CPU, MiB."""

    start: float = 0.0
    memory: float = 0.0
    latency: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    service_cpu: list[float] = field(default_factory=list)


def run(options: Options) -> Iterator[Section]:
    sizes = (*SIZES, 100_000) if options.full else SIZES
    rounds, changes = options.pick(3, 5), options.pick(100, 300)
    found: dict[int, Found] = {}
    for size in sizes:
        log.info("size: %d services", size)
        with temporary_home() as home:
            found[size] = asyncio.run(_measure(home, Mesh(size, size // SCOPE, private=True), rounds, changes))
    least, most = (found[size].cpu for size in (min(sizes), max(sizes)))
    flatness = percentile(most, 50) / percentile(least, 50)
    yield Section(
        topic="size",
        title=f"The control plane among {min(sizes):,} to {max(sizes):,} services",
        method=f"`pilotfish serve` with its SQLite store, controllers and HTTP API, services of 5 endpoints, {PROXIES} "
        f"simulated proxies that see {SCOPE + 1} services each. {changes} times a round the endpoints of a service "
        "that all of them see are written through the API, one change after another: CPU time is that of the whole "
        "process for one change, from the HTTP request to the last proxy's ACK. Then as many Services are written "
        "that one proxy sees or none. The start is a new process on the full store.",
        figures=(
            *_figures("an endpoint change, CPU time", "µs", {s: [1e6 * v for v in f.cpu] for s, f in found.items()}),
            *_figures(
                "a Service written, CPU time", "µs", {s: [1e6 * v for v in f.service_cpu] for s, f in found.items()}
            ),
            Figure(
                name=f"an endpoint change: {max(sizes):,} services against {min(sizes):,}",
                unit="times",
                values=(flatness,),
                goal=2,
            ),
            *_figures(
                "an endpoint change, write acknowledged → all proxies have acknowledged, p50",
                "ms",
                {s: [1e3 * v for v in f.latency] for s, f in found.items()},
            ),
            *_figures("resident memory", "MiB", {s: [f.memory] for s, f in found.items()}),
            *_figures("start → serving", "s", {s: [f.start] for s, f in found.items()}),
        ),
        charts=(
            Chart(
                name="size",
                kind="lines",
                title="CPU time of one endpoint change in the control plane, by the size of the mesh",
                x="services",
                y="microseconds",
                series=(Series("", tuple(point(s, [1e6 * v for v in f.cpu]) for s, f in found.items())),),
            ),
        ),
    )


def _figures(title: str, unit: str, values: dict[int, list[float]]) -> Iterator[Figure]:
    return (Figure(name=f"{title}, {size:,} services", unit=unit, values=tuple(v)) for size, v in values.items())


async def _measure(home: Home, mesh: Mesh, rounds: int, changes: int) -> Found:
    found = Found()
    await fill(home, mesh.objects())
    began = time.monotonic()
    namespaces = [mesh.namespace(n) for n in range(min(PROXIES, mesh.namespaces))]
    with fleet(home, namespaces, PROXIES) as simulated, control_plane(home) as plane:
        found.start = time.monotonic() - began
        await simulated.until(lambda state: state.configured == PROXIES)
        await _quiet(plane)
        await _changes(plane, mesh, 0, WARM_UP)
        for number in range(rounds):
            used, _ = plane.usage()
            latencies = await _changes(plane, mesh, WARM_UP + number * changes, changes)
            found.cpu.append((plane.usage()[0] - used) / changes)
            found.latency.append(percentile(latencies, 50))
            used, _ = plane.usage()
            await _services(plane, mesh, number, changes)
            found.service_cpu.append((plane.usage()[0] - used) / changes)
        found.memory = plane.usage()[1]
    return found


async def _quiet(plane: ControlPlane) -> None:
    """Wait until the controllers have done what a start leaves them to do: until a second takes little CPU time."""
    while True:
        used, _ = plane.usage()
        await asyncio.sleep(1)
        if plane.usage()[0] - used < 0.05:
            return


async def _services(plane: ControlPlane, mesh: Mesh, version: int, count: int) -> None:
    """Write Services, and a change after them that all proxies hear: then the control plane has done what they take."""
    client = plane.client()
    for number in range(count):
        service, _ = mesh.service(number % mesh.services)
        metadata = {**service.document["metadata"], "labels": {"written": f"{version}-{number}"}}
        await send(client, Event("update", service.kind, {**service.document, "metadata": metadata}))
    await client.close()
    await _changes(plane, mesh, -version - 1, 1)


async def _changes(plane: ControlPlane, mesh: Mesh, first: int, count: int) -> list[float]:
    """From the acknowledgement of each write to that of the last proxy, in seconds."""
    client, latencies = plane.client(), []
    for version in range(first + 1, first + count + 1):
        plane.expect([(ENDPOINT, SHARED_CLUSTER)], PROXIES)
        _, endpoints = mesh.shared(version)
        await send(client, Event("update", endpoints.kind, endpoints.document))
        acknowledged = time.monotonic()
        latencies.append(max(0.0, (await plane.expected(60))[-1] - acknowledged))
    await client.close()
    return latencies
