"""A thousand proxies and ten thousand services: who connects, what a change takes, what it costs."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator

from benchmarks.charts import Chart, Series, point
from benchmarks.fleet import Fleet, State, fleet
from benchmarks.floor import fan_outs
from benchmarks.meshes import SHARED, Event, Mesh
from benchmarks.plane import ControlPlane, control_plane, fill, send, temporary_home
from benchmarks.report import Figure, Section, percentile, percentiles
from benchmarks.topic import Options, log
from pilotfish.home import Home
from pilotfish.xds.source import ENDPOINT

SCOPE = 20
"""Services of its own that each proxy sees, beside the one that all see."""
OCCUPIED = 50
"""Namespaces that have proxies."""
SHARED_CLUSTER = f"outbound|8080||{SHARED}.{SHARED}.svc.cluster.local"


class Found:
    """Figures of all rounds."""

    def __init__(self) -> None:
        self.connect: list[float] = []
        self.reconnect: list[float] = []
        self.down: list[float] = []
        self.again: list[float] = []
        self.memory: list[float] = []
        self.idle: list[float] = []
        self.written: list[list[float]] = []
        self.half: list[list[float]] = []
        self.all: list[list[float]] = []
        self.cpu: list[float] = []
        self.scope = 0.0


def run(options: Options) -> Iterator[Section]:
    services, proxies = options.pick(2_000, 10_000), options.pick(250, 1_000)
    rounds, changes = options.pick(2, 5), options.pick(30, 100)
    mesh = Mesh(services, namespaces=services // SCOPE, private=True)
    found = Found()
    with temporary_home() as home:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        floor = fan_outs(home, proxies, changes)
        asyncio.run(fill(home, mesh.objects()))
        for number in range(rounds):
            log.info("scale: round %d of %d: %d proxies, %d services", number + 1, rounds, proxies, services)
            asyncio.run(_round(home, mesh, proxies, changes, found))
    size = (
        f"{proxies:,} simulated proxies, {services:,} services with 5 endpoints each, {found.scope:.0f} in each scope"
    )
    where = (
        "`pilotfish serve` with its SQLite store, mutual TLS, HTTP API; proxies in a second process on the same cores"
    )
    yield Section(
        topic="fan-out",
        title=f"Endpoint change → {proxies:,} proxies",
        method=f"{size}. {where}. Times are from the acknowledgement of the write to the control plane's receipt "
        f"of each proxy's ACK; {changes} changes a round of a service that all see, one after another.",
        figures=(
            *percentiles("write sent → acknowledged", found.written),
            *percentiles("write acknowledged → half of the proxies have acknowledged", found.half),
            *percentiles("write acknowledged → all proxies have acknowledged", found.all, p99=250),
            Figure(name="the control plane's CPU time a change", unit="ms", values=tuple(1000 * s for s in found.cpu)),
            Figure(
                name="the same of a gRPC server that does nothing but write to each and read from each",
                unit="ms",
                values=(1000 * percentile(floor, 50),),
            ),
        ),
        charts=(_fan_out_chart(found, proxies),),
    )
    yield Section(
        topic="scale",
        title=f"{proxies:,} proxies, {services:,} services",
        method=f"{size} (by `exportTo`), proxies in {OCCUPIED} namespaces. {where}. Proxies connect all at once "
        "and ask as Envoy does: clusters, then their endpoints, listeners, then their routes. The restart "
        "is SIGTERM and a new process.",
        figures=(
            Figure(name="all connect at once → all configured", unit="s", values=tuple(found.connect), goal=10),
            Figure(name="control plane restart: gone → serving again", unit="s", values=tuple(found.down)),
            Figure(
                name="control plane restart: gone → all reconnected", unit="s", values=tuple(found.reconnect), goal=10
            ),
            Figure(name="control plane restart: resources sent again", unit="", values=tuple(found.again), goal=0),
            Figure(name="control plane, resident, before proxies", unit="MiB", values=tuple(found.idle)),
            Figure(name="control plane, resident, at the end", unit="MiB", values=tuple(found.memory), goal=1024),
        ),
    )


async def _round(home: Home, mesh: Mesh, proxies: int, changes: int, found: Found) -> None:
    with fleet(home, [mesh.namespace(n) for n in range(OCCUPIED)], proxies) as simulated:
        with control_plane(home) as plane:
            found.idle.append(plane.usage()[1])
            began = time.monotonic()
            state = await simulated.until(lambda state: state.configured == proxies)
            found.connect.append(state.stamps[-1] - began)
            found.scope = state.clusters / proxies
            await _changes(plane, mesh, proxies, changes, found)
            before = await simulated.until(_settled())
        stopped = time.monotonic()
        with control_plane(home) as plane:
            found.down.append(time.monotonic() - stopped)
            await _reconnected(simulated, before.streams + proxies, stopped, found)
            # A change that all hear of proves that all are there, and what they were sent before it was in vain.
            client = plane.client()
            plane.expect([(ENDPOINT, SHARED_CLUSTER)], proxies)
            await send(client, _change(mesh, 0))
            await plane.expected(120)
            await client.close()
            after = await simulated.until(_settled())
            found.again.append(after.received - before.received - proxies)
            found.memory.append(plane.usage()[1])


async def _reconnected(simulated: Fleet, streams: int, since: float, found: Found) -> None:
    await simulated.until(lambda state: state.streams >= streams)
    found.reconnect.append(time.monotonic() - since)


def _settled() -> Callable[[State], bool]:
    """Whether nothing was received for a moment."""
    seen = [-1, 0]

    def holds(state: State) -> bool:
        seen[1] = seen[1] + 1 if state.received == seen[0] else 0
        seen[0] = state.received
        return seen[1] >= 10

    return holds


def _change(mesh: Mesh, version: int) -> Event:
    _, endpoints = mesh.shared(version)
    return Event("update", endpoints.kind, endpoints.document)


async def _changes(plane: ControlPlane, mesh: Mesh, proxies: int, changes: int, found: Found) -> None:
    client = plane.client()
    written, half, all_ = [], [], []
    used, _ = plane.usage()
    for version in range(1, changes + 1):
        plane.expect([(ENDPOINT, SHARED_CLUSTER)], proxies)
        sent = time.monotonic()
        await send(client, _change(mesh, version))
        acknowledged = time.monotonic()
        times = await plane.expected(120)
        written.append(acknowledged - sent)
        half.append(max(0.0, percentile(times, 50) - acknowledged))
        all_.append(max(0.0, times[-1] - acknowledged))
    found.cpu.append((plane.usage()[0] - used) / changes)
    for rounds, values in ((found.written, written), (found.half, half), (found.all, all_)):
        rounds.append(values)
    await client.close()


def _fan_out_chart(found: Found, proxies: int) -> Chart:
    def series(name: str, percent: float) -> Series:
        stages = (found.written, found.half, found.all)
        return Series(
            name,
            tuple(point(x, [1000 * percentile(values, percent) for values in stage]) for x, stage in enumerate(stages)),
        )

    return Chart(
        name="fan-out",
        title=f"Endpoint change to {proxies:,} proxies",
        y="milliseconds",
        labels=("write acknowledged", "half of the proxies", "all proxies"),
        series=(series("p50", 50), series("p99", 99)),
    )
