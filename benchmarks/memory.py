"""What the size of the mesh costs a sidecar: resident memory of a real Envoy, of the whole mesh and of what it uses."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Iterator

from benchmarks.charts import Chart, Series, point
from benchmarks.meshes import Mesh
from benchmarks.plane import fill
from benchmarks.realmesh import EAGER, ON_DEMAND, RealMesh, pod, real_mesh, resident, until
from benchmarks.report import Figure, Section, number
from benchmarks.topic import Options, log
from pilotfish.home import Home

USED = 20
KINDS = {"eager": ON_DEMAND | EAGER, "on demand": ON_DEMAND}
_LOOK_UP = "import socket,sys\nfor host in sys.argv[1:]: socket.getaddrinfo(host, None, socket.AF_INET)"


def run(options: Options) -> Iterator[Section]:
    sizes = (USED, 1_000, 10_000)
    found: dict[str, dict[int, list[float]]] = {kind: {} for kind in KINDS}
    clusters: dict[str, dict[int, int]] = {kind: {} for kind in KINDS}
    for size in sizes:
        mesh = Mesh(size)
        with real_mesh(functools.partial(_fill, mesh)) as (real, _):
            for number_ in range(options.pick(1, 3)):
                for kind, annotations in KINDS.items():
                    log.info("memory: %d services, %s, round %d", size, kind, number_ + 1)
                    name = f"measured-{kind.replace(' ', '-')}-{number_}"
                    real.apply(pod(name, ["sleep", "infinity"], annotations=annotations))
                    real.wait_ready(name)
                    _use(real, mesh, name)
                    found[kind].setdefault(size, []).append(_settled(real.envoy_of(name)))
                    clusters[kind][size] = _clusters(real, name)
                    real.delete_pods(name)
    yield Section(
        topic="memory",
        title="Resident memory of an Envoy",
        method="`pilotfish up` with so many services of 5 endpoints, and a pod with a sidecar that looks up "
        f"{USED} of them. RSS from /proc once it no longer changes. Eager is the pod annotation "
        "`pilotfish.dev/config: eager`, which gives the proxy the whole mesh as Istio does.",
        figures=(
            *(
                Figure(name=f"{kind}, {size:,} services", unit="MiB", values=tuple(values))
                for kind, by_size in found.items()
                for size, values in by_size.items()
            ),
            *(
                Figure(
                    name=f"{kind}: {size:,} services more than {USED}",
                    unit="MiB",
                    values=tuple(a - b for a, b in zip(found[kind][size], found[kind][USED], strict=True)),
                    goal=5 if kind == "on demand" else None,
                )
                for kind in KINDS
                for size in sizes[1:]
            ),
        ),
        notes=tuple(
            f"Clusters that the proxy has, {kind}: "
            + ", ".join(f"{number(count)} of {size:,} services" for size, count in by_size.items())
            + "."
            for kind, by_size in clusters.items()
        ),
        charts=(
            Chart(
                name="memory",
                title="Resident memory of a sidecar's Envoy",
                y="MiB",
                labels=tuple(f"{size:,} services" for size in sizes),
                series=tuple(
                    Series(kind, tuple(point(x, by_size[size]) for x, size in enumerate(sizes)))
                    for kind, by_size in found.items()
                ),
            ),
        ),
    )


def _fill(mesh: Mesh, home: Home) -> None:
    asyncio.run(fill(home, mesh.objects()))


def _use(real: RealMesh, mesh: Mesh, name: str) -> None:
    hosts = [mesh.hostname(number) for number in range(USED)]
    real.kubectl("exec", name, "-c", "main", "--", "python3", "-c", _LOOK_UP, *hosts)


def _settled(pid: int) -> float:
    """RSS in MiB once it has been the same for two seconds."""
    seen = [0.0, time.monotonic()]

    def stable() -> bool:
        now = resident(pid)[0]
        if now != seen[0]:
            seen[:] = now, time.monotonic()
        return time.monotonic() - seen[1] > 2

    until(stable, "Envoy's memory no longer changes", pause=0.1)
    return seen[0]


def _clusters(real: RealMesh, name: str) -> int:
    url = "127.0.0.1:15000/config_dump?resource=dynamic_active_clusters&mask=cluster.name"
    answer = real.kubectl("exec", name, "-c", "main", "--", "curl", "-s", url)
    return len(json.loads(answer).get("configs", ()))
