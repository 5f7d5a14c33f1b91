"""From a write to a real Envoy's acknowledgement, in a mesh of a thousand services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from benchmarks.charts import Chart, Series, point
from benchmarks.meshes import Event, Mesh, service_entry
from benchmarks.plane import ControlPlane, fill, send
from benchmarks.realmesh import EAGER, pod, real_mesh
from benchmarks.report import Section, percentile, percentiles
from benchmarks.topic import Options, log
from pilotfish.api.kinds import ENDPOINT_SLICE, SERVICE_ENTRY
from pilotfish.client.http import HTTPClient
from pilotfish.xds.source import CLUSTER, ENDPOINT, ROUTE

HOST = "measured.mesh"
_CLUSTER = f"outbound|50000||{HOST}"
_COMPLETE = [(CLUSTER, _CLUSTER), (ENDPOINT, _CLUSTER), (ROUTE, "50000")]
_VIP = "240.240.200.1"

Rounds = list[list[float]]


def run(options: Options) -> Iterator[Section]:
    services, rounds, changes = 1_000, options.pick(2, 5), options.pick(30, 200)
    mesh = Mesh(services)
    applied: Rounds = []
    withdrawn: Rounds = []
    endpoints: Rounds = []
    written: Rounds = []
    with real_mesh(lambda home: asyncio.run(fill(home, mesh.objects()))) as (real, plane):
        real.apply(pod("measured", ["sleep", "infinity"], annotations=EAGER))
        real.wait_ready("measured")
        for number in range(rounds):
            log.info("propagation: round %d of %d", number + 1, rounds)
            for found, values in zip(
                (written, applied, withdrawn, endpoints), asyncio.run(_round(plane, mesh, changes)), strict=True
            ):
                found.append(values)
    yield Section(
        topic="propagation",
        title=f"ServiceEntry applied → a real Envoy has acknowledged, {services:,} services",
        method=f"A mesh of `pilotfish up` with {services:,} services and one pod, whose Envoy holds them all "
        "(`pilotfish.dev/config: eager`). ServiceEntries are written with the HTTP client; the observer of "
        "the control plane's ADS streams notes when Envoy has acknowledged the host's cluster, its "
        "endpoints and the route configuration with its virtual host: all three. The entry has an address "
        f"of its own, so that one write is all. {changes} of each a round, one after another.",
        figures=(
            *percentiles("write sent → acknowledged", written),
            *percentiles("ServiceEntry: write acknowledged → Envoy has acknowledged", applied, p50=5, p99=20),
            *percentiles("ServiceEntry removed → Envoy has acknowledged", withdrawn),
            *percentiles("endpoint change → Envoy has acknowledged", endpoints),
        ),
        charts=(
            Chart(
                name="propagation",
                title="From the acknowledged write to Envoy's ACK, 1,000 services",
                y="milliseconds",
                labels=("ServiceEntry added", "removed", "endpoints changed"),
                series=tuple(
                    Series(
                        f"p{percent}",
                        tuple(
                            point(x, [1000 * percentile(values, percent) for values in found])
                            for x, found in enumerate((applied, withdrawn, endpoints))
                        ),
                    )
                    for percent in (50, 99)
                ),
            ),
        ),
    )


async def _round(plane: ControlPlane, mesh: Mesh, changes: int) -> tuple[list[float], ...]:
    written: list[float] = []
    applied: list[float] = []
    withdrawn: list[float] = []
    endpoints: list[float] = []
    entry = service_entry("measured", HOST)
    entry["spec"]["addresses"] = [_VIP]
    client = plane.client()
    # The first listener on the port is there before the clock runs: each later entry shares it.
    neighbour = service_entry("neighbour", "neighbour.mesh", 1)
    neighbour["spec"]["addresses"] = ["240.240.200.2"]
    plane.expect([(ROUTE, "50000")])
    await send(client, Event("create", SERVICE_ENTRY, neighbour))
    await plane.expected()
    for version in range(changes):
        sent, acknowledged, seen = await _timed(plane, client, Event("create", SERVICE_ENTRY, entry), _COMPLETE)
        written.append(acknowledged - sent)
        applied.append(seen - acknowledged)
        _, acknowledged, seen = await _timed(plane, client, Event("delete", SERVICE_ENTRY, entry), _COMPLETE[2:])
        withdrawn.append(seen - acknowledged)
        name = f"outbound|{_port(mesh, version)}||{mesh.hostname(version)}"
        document = mesh.service(version, int(time.monotonic() * 1000))[1].document
        _, acknowledged, seen = await _timed(
            plane, client, Event("update", ENDPOINT_SLICE, document), [(ENDPOINT, name)]
        )
        endpoints.append(seen - acknowledged)
    await send(client, Event("delete", SERVICE_ENTRY, neighbour))
    await client.close()
    # Envoy's acknowledgement can be quicker than the answer to the writer.
    return written, *([max(0.0, value) for value in values] for values in (applied, withdrawn, endpoints))


def _port(mesh: Mesh, number: int) -> int:
    return int(mesh.service(number)[0].document["spec"]["ports"][0]["port"])


async def _timed(
    plane: ControlPlane, client: HTTPClient, event: Event, resources: list[tuple[str, str]]
) -> tuple[float, float, float]:
    """When the write was sent, when it was acknowledged, and when Envoy had acknowledged the last of the resources."""
    plane.expect(resources)
    sent = time.monotonic()
    await send(client, event)
    acknowledged = time.monotonic()
    return sent, acknowledged, (await plane.expected(20))[-1]
