"""What changes cost the control plane as the mesh grows: CPU time in the model and the generator, nothing else.

With one proxy that holds everything, and with one that holds what its workload looked up.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks.charts import Chart, Series, point
from benchmarks.meshes import Event, Mesh
from benchmarks.report import Figure, Section, percentile
from benchmarks.topic import Options, log
from pilotfish.api.decode import decode
from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.meta import Object
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.model import Change, Model
from pilotfish.xds.generator import Generator
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, Changes, ProxyNode

SIZES = (100, 1_000, 10_000)
TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
BURST = 100
USED = 20

Key = tuple[str, str, str]


def run(options: Options) -> Iterator[Section]:
    sizes = (*SIZES, 100_000) if options.full else SIZES
    changes, rounds = options.pick(200, 500), options.pick(3, 5)
    loaded: dict[int, float] = {}
    for used, title in ((0, "the whole mesh"), (USED, f"{USED} hosts on demand")):
        yield _section(title, _churn(sizes, used, changes, rounds, loaded), loaded)


def _churn(
    sizes: tuple[int, ...], used: int, changes: int, rounds: int, loaded: dict[int, float]
) -> dict[str, dict[int, list[float]]]:
    """Microseconds of each kind of change by the number of services, with a proxy that uses so many (0: all)."""
    churn: dict[str, dict[int, list[float]]] = {}
    for size in sizes:
        log.info("cost: %d services, %s", size, f"{used} in use" if used else "all in use")
        mesh = Mesh(size)
        world = World([mesh.hostname(n) for n in range(used)])
        loaded[size] = world.apply(mesh.objects(), batch=4 * size) / size
        gc.freeze()
        for _ in range(rounds):
            for name, events, count in (
                ("an endpoint flaps", mesh.flaps(changes), 2 * changes),
                ("a step of a rollout", mesh.rollouts(changes // 5), changes // 5 * mesh.endpoints),
                ("a service gets or loses a port", mesh.route_changes(changes // 10), changes // 10 * 2),
                ("a routing rule changes", mesh.rule_changes(changes // 10), changes // 10 * 4),
                ("a service comes or goes", mesh.arrivals(10), 40),
                (f"a ServiceEntry of a burst of {BURST}", mesh.burst(BURST), BURST * 2),
            ):
                seconds = world.apply(events, batch=BURST if "burst" in name else 1)
                churn.setdefault(name, {}).setdefault(size, []).append(1e6 * seconds / count)
        world.close()
        gc.unfreeze()
    return churn


def _section(title: str, churn: dict[str, dict[int, list[float]]], loaded: dict[int, float]) -> Section:
    on_demand = "demand" in title
    return Section(
        topic="cost-on-demand" if on_demand else "cost",
        title=f"What a change costs as services grow, a proxy with {title}",
        method=f"The model and the generator in this process, with one sidecar that holds {title}: CPU time "
        "from the decoded object to the serialised resources that go to the proxy. Applied one by one, a "
        "burst as one batch. One service of ten has a VirtualService and a DestinationRule. The seeds are the same for "
        "every size.",
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
                name="cost-on-demand" if on_demand else "cost",
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

    def __init__(self, used: Sequence[str] = ()) -> None:
        """`used` are the hosts that the proxy's workload looks up; none: the proxy holds everything."""
        self._generator = Generator(Model(), audit=False)
        self._objects: dict[Key, Object] = {}
        metadata = {"DNS_CAPTURE": "true"} if used else {}
        node = ProxyNode("sidecar~10.0.0.1~web.default~x", "sidecar", "10.0.0.1", "web", "default", metadata)
        self._config = self._generator.connect(node, self._pushed)
        dns = ProxyNode("dns~10.0.0.9~node.kube-system~x", "dns", "10.0.0.9", "node", "kube-system")
        self._dns = self._generator.connect(dns, lambda _: None)
        self._dns.asked(NAME_TABLE_TYPE, [demand_name(Demand(node.ip, host)) for host in used], (), ())

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
        self._dns.close()

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
