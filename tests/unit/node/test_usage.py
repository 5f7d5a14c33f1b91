"""What Envoy says of the use of its clusters, and how that adds up until it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.node import netns, usage
from pilotfish.node.usage import Load, added, read

STATS = """cluster.outbound|80||web.default.svc.cluster.local;.upstream_rq_active: 0
cluster.outbound|80||web.default.svc.cluster.local;.upstream_rq_total: 7
cluster.outbound|9000|20240131|2001_2__5;.upstream_rq_active: 2
cluster.xds-grpc;.upstream_rq_total: 1
cluster.xds-grpc;.upstream_rq_active_overflow: 0
"""


def test_envoys_statistics_are_read_by_cluster() -> None:
    assert read(STATS) == {
        "outbound|80||web.default.svc.cluster.local": Load(0, 7),
        "outbound|9000|20240131|2001_2__5": Load(2, 0),
        "xds-grpc": Load(0, 1),
    }


@pytest.mark.parametrize(
    ("untold", "before", "now", "expected"),
    [
        (None, None, Load(0, 5), Load(0, 5)),  # an agent that has only just come
        (None, Load(1, 5), Load(0, 5), Load(0, 0)),
        (None, Load(0, 5), Load(1, 6), Load(1, 1)),
        (None, Load(0, 5), Load(0, 2), Load(0, 2)),  # a new Envoy, or a new cluster of that name
        (Load(1, 2), Load(1, 5), Load(0, 6), Load(1, 3)),  # what was open when nobody listened
    ],
)
def test_what_is_not_told_yet_adds_up(untold: Load | None, before: Load | None, now: Load, expected: Load) -> None:
    def named(load: Load | None) -> dict[str, Load]:
        return {} if load is None else {"a": load}

    assert added(named(untold), named(before), named(now)) == named(expected)


def test_a_cluster_that_is_gone_is_told_once_more() -> None:
    assert added({"a": Load(0, 1)}, {"a": Load(0, 1)}, {}) == {"a": Load(0, 1)}


class FakeEnvoy:
    """Answers as Envoy's admin interface does, with counters that a test sets."""

    def __init__(self) -> None:
        self.begun = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f"cluster.a;.upstream_rq_total: {fake.begun}\n".encode()
                self.send_response(200 if self.path.startswith("/stats?filter=") else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, args=(0.01,))


@pytest.fixture
def fake_envoy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """In the test's own network namespace."""
    envoy = FakeEnvoy()
    monkeypatch.setattr(usage, "ADMIN_PORT", envoy.server.server_port)
    monkeypatch.setattr(usage, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(usage, "RETRY_DELAY", 0.001)
    monkeypatch.setattr(netns, "run_in", lambda _, function: function())
    envoy.thread.start()
    yield envoy
    envoy.server.shutdown()
    envoy.thread.join()
    envoy.server.server_close()


def bootstrap_in(folder: Path, **metadata: str) -> None:
    (folder / "envoy.json").write_text(json.dumps({"node": {"id": "web", "metadata": metadata}}))


def test_reports_go_out_until_nobody_asks_and_nothing_is_lost(fake_envoy: FakeEnvoy, tmp_path: Path) -> None:
    bootstrap_in(tmp_path, DNS_CAPTURE="true")
    told: list[tuple[Any, Mapping[str, Load]]] = []
    outcomes = iter([0.001, None, 0.001, 0.0])

    async def report(node: Any, loads: Mapping[str, Load]) -> float:
        told.append((node["id"], dict(loads)))
        fake_envoy.begun += 1
        outcome = next(outcomes)
        if outcome is None:
            raise ServiceUnavailable("away")
        return outcome

    fake_envoy.begun = 5
    asyncio.run(asyncio.wait_for(usage.keep(tmp_path, Path("/unused"), report), 10))
    assert told == [("web", {"a": Load(0, n)}) for n in (5, 1, 2, 1)]


def test_a_proxy_with_everything_is_not_asked(fake_envoy: FakeEnvoy, tmp_path: Path) -> None:
    async def report(node: Any, loads: Mapping[str, Load]) -> float:
        raise AssertionError("nobody wants to know")

    bootstrap_in(tmp_path, DNS_CAPTURE="true", PILOTFISH_CONFIG="eager")
    asyncio.run(asyncio.wait_for(usage.keep(tmp_path, Path("/unused"), report), 10))


def test_a_proxy_that_is_not_there_yet_is_asked_later(fake_envoy: FakeEnvoy, tmp_path: Path) -> None:
    told = asyncio.Event()

    async def report(node: Any, loads: Mapping[str, Load]) -> float:
        told.set()
        return 0.001

    async def run() -> None:
        keeping = asyncio.create_task(usage.keep(tmp_path, Path("/unused"), report))
        await asyncio.sleep(0.05)
        assert not told.is_set()
        bootstrap_in(tmp_path, DNS_CAPTURE="true")
        await asyncio.wait_for(told.wait(), 10)
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

    asyncio.run(run())
