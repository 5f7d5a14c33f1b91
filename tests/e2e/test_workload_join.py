"""Processes that are no pods join the mesh: they are called by name, watched, and forgotten when they leave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

PILOTFISH = [sys.executable, "-m", "pilotfish"]
GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {{name: {group}}}
spec:
  metadata:
    labels: {{app: {group}}}
    annotations: {{example.com/floor: "2"}}
  template:
    ports: {{http: {port}}}
    locality: eu/a
    serviceAccount: tills
  probe:
    periodSeconds: 1
    {check}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {group}}}
spec:
  hosts: [{group}.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: {group}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {group}}}
spec: {{type: ExternalName, externalName: {group}.test}}
"""
HTTP_CHECK = "httpGet: {{path: /health, port: {port}}}"
CALLER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: tills}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, labels: {app: caller}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: app, image: example/app, command: [sleep, "1000000"]}
"""
SERVER = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    healthy = True

    def do_GET(self):
        if self.path == "/break":
            Handler.healthy = False
        self.send_response(200 if Handler.healthy or self.path != "/health" else 503)
        self.end_headers()
        self.wfile.write(f"{sys.argv[1]} {self.headers.get('x-request-id', 'unproxied')}".encode())

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1" if sys.argv[2] == "0" else "", int(sys.argv[2])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
CALL = """
import sys, urllib.error, urllib.request
try:
    print("200", urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def caller(mesh: Any, tools: Any) -> Iterator[Any]:
    """A mesh with a pod to call from."""
    try:
        mesh.apply(CALLER)
        mesh.kubectl("wait", "pod/caller", "--for=condition=Ready", "--timeout=60s")
        yield mesh
    finally:
        mesh.kubectl("delete", "pod/caller", "serviceaccount/tills", "--ignore-not-found", "--wait=false")
        tools.eventually(lambda: not mesh.get("pods")["items"], "all pods are gone")


@pytest.fixture
def group(caller: Any, tools: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Applies a WorkloadGroup with its ServiceEntry."""
    made: list[str] = []

    def make(name: str, port: int, check: str = HTTP_CHECK) -> str:
        made.append(name)
        caller.apply(GROUP.format(group=name, port=port, check=check.format(port=port)))
        return name

    yield make
    for name in made:
        caller.kubectl("delete", "workloadgroup,serviceentry,service", name, "--ignore-not-found")
    tools.eventually(lambda: not entries(caller), "all entries are gone")


@contextlib.contextmanager
def joined(mesh: Any, log: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*PILOTFISH, "workload", "join", *argv], stdout=out, stderr=subprocess.STDOUT, env=mesh.env
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def host_server() -> Iterator[int]:
    """A process of the host that listens on its loopback; gives the port."""
    with subprocess.Popen([sys.executable, "-c", SERVER, "host", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def entries(mesh: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = mesh.get("workloadentries")["items"]
    return found


def healthy(mesh: Any) -> list[str]:
    """The `Healthy` condition of each entry."""
    conditions = [c for entry in entries(mesh) for c in entry.get("status", {}).get("conditions", [])]
    return [c["status"] for c in conditions if c["type"] == "Healthy"]


def call(mesh: Any, host: str, path: str = "/") -> str:
    command = ("exec", "caller", "-c", "app", "--", sys.executable, "-c", CALL, f"http://{host}{path}")
    return str(mesh.kubectl(*command, check=False)).strip()


def test_a_process_of_the_host(caller: Any, tools: Any, group: Any, tmp_path: Path) -> None:
    log = tmp_path / "join.log"
    with host_server() as port:
        name = group("till", port)
        with joined(caller, log, "--group", f"default/{name}") as process:
            answer = tools.eventually(
                lambda: (a := call(caller, "till.test")).startswith("200 host") and a, told_in(log)
            )
            assert not answer.endswith("unproxied")
            assert call(caller, "till.default").startswith("200 host"), "by an alias too"
            assert "host" not in call(caller, f"169.254.1.1:{port}"), "other pods do not reach the host's loopback"
            [entry] = entries(caller)
            [pod] = [p for p in caller.get("pods")["items"] if p["metadata"]["name"] != "caller"]
            ip = pod["status"]["podIP"]
            assert entry["metadata"]["name"] == f"till-{ip}"
            assert entry["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] == "till"
            assert entry["metadata"]["annotations"]["example.com/floor"] == "2"
            assert entry["metadata"]["labels"]["app"] == "till"
            spec = {key: entry["spec"][key] for key in ("address", "ports", "locality", "serviceAccount")}
            assert spec == {"address": ip, "ports": {"http": port}, "locality": "eu/a", "serviceAccount": "tills"}
            assert healthy(caller) == ["True"]
            log_line = tools.eventually(
                lambda: "inbound|" in (text := caller.kubectl("logs", pod["metadata"]["name"])) and text, "its log"
            )
            assert f"inbound|{port}||" in log_line

            with urllib.request.urlopen(f"http://127.0.0.1:{port}/break") as answered:
                assert answered.read() == b"host unproxied", "the host's own traffic is nobody's business"
            tools.eventually(lambda: healthy(caller) == ["False"], "the failing check is told")
            tools.eventually(lambda: call(caller, "till.test").startswith("503"), "it gets no traffic any more")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0, log.read_text()
        tools.eventually(lambda: not entries(caller), "its entry is gone")
        tools.eventually(lambda: len(caller.get("pods")["items"]) == 1, "its proxy is gone")


def test_a_command(caller: Any, tools: Any, group: Any, tmp_path: Path) -> None:
    """It runs in a network of its own, with the mesh's names, the caller's files, and its end is the workload's."""
    log = tmp_path / "join.log"
    name = group("desk", 8080)
    with joined(caller, log, "-g", name, "--", sys.executable, "-c", SERVER, "inside", "8080") as process:
        tools.eventually(lambda: call(caller, "desk.test").startswith("200 inside"), told_in(log))
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen("http://127.0.0.1:8080/")
        own = (sys.executable, "-c", CALL, "http://desk.test/")
        found = caller.pilotfish("workload", "join", "-g", name, "--", *own)
        assert "200 inside" in found and "unproxied" not in found
        assert caller.run(*PILOTFISH, "workload", "join", "-g", name, "--", "false", check=False).returncode == 1
        process.kill()
    tools.eventually(lambda: not entries(caller), "whoever is killed has left")
    tools.eventually(lambda: len(caller.get("pods")["items"]) == 1, "its proxy is gone")


@pytest.mark.parametrize("inside", [False, True], ids=["on the host", "inside"])
def test_health_by_a_command(caller: Any, tools: Any, group: Any, tmp_path: Path, inside: bool) -> None:
    """It is run where the workload is, and the node agent may come and go meanwhile."""
    sign = tmp_path / "well"
    name = group("scale", 9, f"exec: {{{{command: [test, -e, {sign}]}}}}")
    with joined(caller, tmp_path / "join.log", "-g", name, *(("--", "sleep", "1000000") if inside else ())):
        tools.eventually(lambda: healthy(caller) == ["False"], "a first verdict")
        agent = caller.pid("node")
        os.kill(agent, signal.SIGKILL)
        sign.touch()
        tools.eventually(lambda: healthy(caller) == ["True"], "a better one")
        tools.eventually(lambda: caller.pid("node") not in (0, agent), "another agent")
        sign.unlink()
        tools.eventually(lambda: healthy(caller) == ["False"], "a worse one")
        assert len(entries(caller)) == 1


def test_what_is_wrong_is_said(caller: Any) -> None:
    done = caller.run(*PILOTFISH, "workload", "join", "-g", "nobody", check=False)
    assert done.returncode == 1
    assert 'workloadgroups.networking.istio.io "nobody" not found' in done.stdout


def told_in(log: Path) -> str:
    return f"an answer; see {log}"
