"""Kill every process of the mesh with SIGKILL while `/demo` is called in a loop: the loop recovers by itself."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


class Caller:
    """Calls `/demo` over and over, a connection each, and keeps the outcome of every call."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.outcomes.append(self._call())

    def _call(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("GET", "/demo")
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
            return "ok" if response.status == 200 else f"{response.status}: {body}"
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failures(self) -> list[str]:
        return [outcome for outcome in self.outcomes if outcome != "ok"]

    def more(self, count: int, tools: Any) -> list[str]:
        """Wait for this many further calls and give their outcomes."""
        start = len(self.outcomes)
        tools.eventually(lambda: len(self.outcomes) >= start + count, f"{count} more calls")
        return self.outcomes[start : start + count]


@pytest.fixture
def caller(hello: Any, tools: Any) -> Any:
    port = int(hello.demo_url().split(":")[2].split("/")[0])
    with Caller(port) as running:
        assert set(running.more(10, tools)) == {"ok"}
        yield running


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("role", ["serve", "node"])
def test_control_plane_and_node_agent_die_without_one_failed_call(
    role: str, hello: Any, caller: Any, tools: Any
) -> None:
    old = hello.pid(role)
    kill(old)
    tools.eventually(lambda: hello.pid(role) != old, f"the supervisor started {role} again")
    tools.eventually(lambda: "Ready" in hello.kubectl("get", "nodes", check=False).split(), "the node is ready again")
    caller.more(50, tools)
    assert caller.failures == []
    assert hello.kubectl("logs", hello.pod_name("mesha"), "--tail=1").strip()


def test_the_supervisor_dies_and_up_takes_over(hello: Any, caller: Any, tools: Any) -> None:
    before = {role: hello.pid(role) for role in ("serve", "node")}
    kill(hello.pid("supervise"))
    caller.more(20, tools)
    hello.pilotfish("up", "--detach")
    assert {role: hello.pid(role) for role in ("serve", "node")} == before
    assert caller.failures == []


def test_the_dns_process_dies_and_comes_back(hello: Any, caller: Any, tools: Any) -> None:
    pid = int((hello.home / "run/dns.pid").read_text())
    kill(pid)
    tools.eventually(lambda: int((hello.home / "run/dns.pid").read_text() or 0) not in (0, pid), "a new DNS process")
    tools.eventually(lambda: set(caller.more(20, tools)) == {"ok"}, "twenty calls in a row succeed")


@pytest.mark.parametrize("app", ["mesha", "meshb"])
def test_an_envoy_dies_and_comes_back(app: str, hello: Any, caller: Any, tools: Any) -> None:
    pod = hello.pod(app)
    hello.kubectl("exec", pod["metadata"]["name"], "-c", "istio-proxy", "--", "pkill", "-KILL", "-x", "envoy")

    def restarted() -> bool:
        statuses = hello.pod(app)["status"]["containerStatuses"]
        return any(s["name"] == "istio-proxy" and s["restartCount"] >= 1 and s["ready"] for s in statuses)

    tools.eventually(restarted, f"{app}'s proxy was restarted")
    tools.eventually(lambda: set(caller.more(20, tools)) == {"ok"}, "twenty calls in a row succeed")


def test_an_application_dies_and_comes_back(hello: Any, caller: Any, tools: Any) -> None:
    hello.kubectl("exec", hello.pod_name("meshb"), "-c", "meshb", "--", "pkill", "-KILL", "-f", "meshb.py")
    tools.eventually(
        lambda: any(
            s["name"] == "meshb" and s["restartCount"] for s in hello.pod("meshb")["status"]["containerStatuses"]
        ),
        "meshb was restarted",
    )
    tools.eventually(lambda: set(caller.more(20, tools)) == {"ok"}, "twenty calls in a row succeed")


def test_the_pods_own_supervisor_dies_and_the_pod_is_made_anew(hello: Any, caller: Any, tools: Any) -> None:
    hello.kubectl("rollout", "restart", "deployment/meshb")  # a pod that crashed before is started again less at once
    hello.kubectl("rollout", "status", "deployment/meshb", "--timeout=60s")
    name, uid = (hello.pod("meshb")["metadata"][key] for key in ("name", "uid"))
    pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if uid in _cmdline(p) and "supervisor" in _cmdline(p)]
    assert pids
    for pid in pids:
        kill(pid)
    tools.eventually(lambda: hello.pod("meshb")["metadata"]["name"] == name and _ready(hello.pod("meshb")), "pod ready")
    hello.map_meshb()  # the pod may have another address now
    tools.eventually(lambda: set(caller.more(20, tools)) == {"ok"}, "twenty calls in a row succeed")


def _cmdline(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _ready(pod: Any) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def test_an_acknowledged_write_survives_sigkill_of_the_server(mesh: Any, tools: Any) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            name = f"survivor-{len(acknowledged)}"
            if f"configmap/{name} created" in mesh.kubectl("create", "configmap", name, check=False):
                acknowledged.append(name)
            elif len(acknowledged) >= 5:
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        tools.eventually(lambda: len(acknowledged) >= 5, "five writes are acknowledged")
        kill(mesh.pid("serve"))
        began = time.monotonic()
        writer.join(timeout=30)
    finally:
        stop.set()
        writer.join()
    assert time.monotonic() - began < 30
    tools.eventually(lambda: "ok" in mesh.kubectl("get", "--raw", "/readyz", check=False), "the API answers again")
    stored = set(mesh.kubectl("get", "configmaps", "-o", "name").split())
    assert {f"configmap/{name}" for name in acknowledged} <= stored
    mesh.kubectl("delete", "configmap", *acknowledged)
