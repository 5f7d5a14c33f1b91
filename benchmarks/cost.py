"""What changes cost the control plane as the mesh grows: CPU time in the model and the generator, nothing else."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.charts import Chart, Series, point
from benchmarks.meshes import Event, Mesh
from benchmarks.report import Figure, Section, percentile
from benchmarks.topic import Options, log
from pilotfish.api.decode import decode
from pilotfish.api.meta import Object
from pilotfish.mesh.model import Change, Model
from pilotfish.xds.generator import Generator
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, Changes, ProxyNode

SIZES = (100, 1_000, 10_000)
TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
BURST = 100

Key = tuple[str, str, str]


def run(options: Options) -> Iterator[Section]:
    sizes = (*SIZES, 100_000) if options.full else SIZES
    changes, rounds = options.pick(200, 500), options.pick(3, 5)
    churn: dict[str, dict[int, list[float]]] = {}
    loaded: dict[int, float] = {}
    for size in sizes:
        log.info("cost: %d services", size)
        mesh = Mesh(size)
        world = World()
        loaded[size] = world.apply(mesh.objects(), batch=4 * size) / size
        for _ in range(rounds):
            for name, events, count in (
                ("an endpoint flaps", mesh.flaps(changes), 2 * changes),
                ("a step of a rollout", mesh.rollouts(changes // 5), changes // 5 * mesh.endpoints),
                ("a service gets or loses a port", mesh.route_changes(changes // 10), changes // 10 * 2),
                ("a routing rule changes", mesh.rule_changes(changes // 10), changes // 10 * 2),
                ("a service comes or goes", mesh.arrivals(10), 40),
                (f"a ServiceEntry of a burst of {BURST}", mesh.burst(BURST), BURST * 2),
            ):
                seconds = world.apply(events, batch=BURST if "burst" in name else 1)
                churn.setdefault(name, {}).setdefault(size, []).append(1e6 * seconds / count)
        world.close()
    yield Section(
        topic="cost",
        title="What a change costs as services grow",
        method="The model and the generator in this process, with one sidecar that holds the whole mesh: CPU time "
        "from the decoded object to the serialised resources that go to the proxy. Applied one by one, a "
        "burst as one batch. The seeds are the same for every size.",
        figures=(
            *(
                Figure(name=f"{name}, {size:,} services", unit="µs", values=tuple(values))
                for name, found in churn.items()
                for size, values in found.items()
            ),
            *_flatness(churn["an endpoint flaps"]),
            *(
                Figure(name=f"loading, each of {size:,} services", unit="µs", values=(1e6 * seconds,))
                for size, seconds in loaded.items()
            ),
        ),
        charts=(
            Chart(
                name="cost",
                kind="lines",
                title="CPU time of one change, by the size of the mesh",
                x="services",
                y="microseconds",
                series=tuple(
                    Series(name, tuple(point(size, values) for size, values in found.items()))
                    for name, found in churn.items()
                    if "port" not in name and "comes" not in name
                ),
            ),
        ),
    )


def _flatness(flaps: dict[int, list[float]]) -> Iterator[Figure]:
    least, most = min(flaps), max(flaps)
    ratio = percentile(flaps[most], 50) / percentile(flaps[least], 50)
    yield Figure(name=f"an endpoint flaps: {most:,} services against {least:,}", unit="times", values=(ratio,), goal=2)


class World:
    """A generator with one proxy, and the objects that it was told of last."""

    def __init__(self) -> None:
        self._generator = Generator(Model(), audit=False)
        self._objects: dict[Key, Object] = {}
        node = ProxyNode("sidecar~10.0.0.1~web.default~x", "sidecar", "10.0.0.1", "web", "default")
        self._config = self._generator.connect(node, self._pushed)

    def apply(self, events: Iterable[Event], batch: int = 1) -> float:
        """CPU seconds for it all, without the decoding."""
        changes = [change for event in events for change in self._change(event)]
        gc.collect()
        gc.disable()  # a collection is not the cost of the change in which it happens
        try:
            return _cpu(lambda: self._apply(changes, batch))
        finally:
            gc.enable()

    def close(self) -> None:
        self._config.close()

    def _apply(self, changes: list[Change], batch: int) -> None:
        for start in range(0, len(changes), batch):
            self._generator.apply(changes[start : start + batch])

    def _change(self, event: Event) -> Iterator[Any]:
        metadata = event.document["metadata"]
        key = (event.kind.kind, metadata.get("namespace", ""), metadata["name"])
        old = self._objects.pop(key, None)
        new = None if event.verb == "delete" else decode(event.kind, event.document)
        if new is not None:
            self._objects[key] = new
        yield old, new

    def _pushed(self, changes: Changes) -> None:
        for type_url, names in changes.items():
            resources = self._config.resources(type_url)
            for name in names:
                if (resource := resources.get(name)) is not None:
                    assert resource.body


def _cpu(function: Callable[[], None]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began
