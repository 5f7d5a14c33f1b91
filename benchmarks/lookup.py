"""The first lookup of a host by a workload whose sidecar has its configuration on demand: with a real Envoy."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import msgspec

from benchmarks.ask import Asked
from benchmarks.charts import Chart, Series, point
from benchmarks.meshes import PORTS, Event, Mesh
from benchmarks.plane import ControlPlane, fill, send
from benchmarks.realmesh import ON_DEMAND, RealMesh, pod, real_mesh
from benchmarks.report import Section, percentile, percentiles
from benchmarks.topic import Options, log
from pilotfish.api.kinds import ENDPOINT_SLICE

_PERCENTS = (50, 90, 99)


def run(options: Options) -> Iterator[Section]:
    services, rounds, names = 1_000, options.pick(3, 7), options.pick(50, 100)
    mesh = Mesh(services)
    measured = [n for n in range(services) if mesh.protocol(n) == "http"][:names]
    found: list[list[Asked]] = []
    with real_mesh(lambda home: asyncio.run(fill(home, mesh.objects()))) as (real, plane):
        real.apply(pod("echo", [sys.executable, "-m", "benchmarks.echo"], sidecar=False))
        real.wait_ready("echo")
        asyncio.run(_answered_by(plane, mesh, measured, real.get("pod", "echo")["status"]["podIP"]))
        for number in range(rounds):
            log.info("lookup: round %d of %d", number + 1, rounds)
            found.append(_round(real, f"asks-{number}", [mesh.hostname(n) for n in measured]))
        counted = real.dns_counters()
    first, request, again, request_again = (
        [[getattr(asked, field) for asked in asked_] for asked_ in found] for field in Asked.__struct_fields__
    )
    yield Section(
        topic="lookup",
        title=f"First lookup of a host on demand, {services:,} services",
        method=f"A mesh of `pilotfish up` with {services:,} services, and in each round a new pod with a sidecar on "
        f"demand. A client in the pod looks {names} names up one after another, each for the first time, by a UDP "
        "query of its own, and sends each an HTTP request as soon as it has the answer; then both again. The lookup "
        "holds all of this: the DNS process's subscription, the control plane, Envoy's cluster, endpoints, listeners "
        "and routes with their acknowledgements, and the answer's release. What answers the request is a pod without a "
        "sidecar.",
        figures=(
            *percentiles("first lookup → answer", first, p99=15),
            *percentiles("first request, up to its answer", request),
            *percentiles("second lookup", again),
            *percentiles("second request, on a connection of its own", request_again),
        ),
        notes=(f"Answers that waited: {counted.held}, of them in vain: {counted.held_in_vain}.",),
        charts=(
            Chart(
                name="lookup",
                title="First lookup of a host on demand",
                y="milliseconds",
                labels=("first lookup", "first request", "second lookup", "second request"),
                series=tuple(
                    Series(
                        f"p{percent}",
                        tuple(
                            point(x, [1000 * percentile(values, percent) for values in each])
                            for x, each in enumerate((first, request, again, request_again))
                        ),
                    )
                    for percent in _PERCENTS
                ),
            ),
        ),
    )


async def _answered_by(plane: ControlPlane, mesh: Mesh, numbers: list[int], address: str) -> None:
    """Have these services' only endpoint be this address."""
    client = plane.client()
    for number in numbers:
        document = mesh.service(number)[1].document
        endpoints = [{"addresses": [address], "conditions": {"ready": True}}]
        await send(client, Event("update", ENDPOINT_SLICE, {**document, "endpoints": endpoints}))
    await client.close()


def _round(real: RealMesh, name: str, hostnames: list[str]) -> list[Asked]:
    real.apply(pod(name, ["sleep", "infinity"], annotations=ON_DEMAND))
    real.wait_ready(name)
    command = (sys.executable, "-m", "benchmarks.ask", str(PORTS["http"]), *hostnames)
    output = real.kubectl("exec", name, "-c", "main", "--", *command)
    real.delete_pods(name)
    return msgspec.json.decode(output, type=list[Asked])
