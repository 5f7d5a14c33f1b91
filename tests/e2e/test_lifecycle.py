"""Starting and stopping meshes: twice, side by side, with ports taken, without privileges, after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from typing import Any

import pytest

from pilotfish.home import Home

pytestmark = pytest.mark.root

PILOTFISH = (sys.executable, "-m", "pilotfish")


def test_a_second_up_says_that_the_mesh_is_up(mesh: Any) -> None:
    pids = [mesh.pid(role) for role in ("supervise", "serve", "node")]
    assert "already up" in mesh.pilotfish("up", "--detach")
    done = mesh.run(*PILOTFISH, "up", check=False)
    assert done.returncode == 1
    assert "already up" in done.stdout
    assert [mesh.pid(role) for role in ("supervise", "serve", "node")] == pids


def test_the_kubeconfig_is_for_its_owner_only(mesh: Any) -> None:
    assert stat.S_IMODE((mesh.home / "kubeconfig").stat().st_mode) == 0o600


def test_a_port_that_is_taken_is_named_with_who_holds_it(tools: Any, tmp_path: Any) -> None:
    tools.require_tools()
    other = tools.Mesh(tmp_path / "home")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = other.run(*PILOTFISH, "up", "--detach", "--api-port", str(port), check=False)
    assert done.returncode == 1
    assert f"port {port}" in done.stdout
    assert f"process {os.getpid()}" in done.stdout
    assert not other.home.exists()


def test_two_meshes_run_side_by_side_and_down_removes_only_its_own(mesh: Any, tools: Any, tmp_path: Any) -> None:
    other = tools.Mesh(tmp_path / "other")
    try:
        other.pilotfish("up", "--detach")
        home_id = _home_id(other)
        assert "node-gateway" in other.kubectl("get", "pods", "-A")
        assert other.settings()["apiPort"] != mesh.settings()["apiPort"]
        other.kubectl("create", "configmap", "only-here")
        assert "only-here" not in mesh.kubectl("get", "configmaps")
    finally:
        other.pilotfish("down")
    assert tools.leftovers(other.home, home_id) == []
    assert "Ready" in mesh.kubectl("get", "nodes")


def _home_id(mesh: Any) -> str:
    return str(json.loads(mesh.pilotfish("status", "-o", "json"))["id"])


def test_everything_is_killed_and_up_and_down_still_work(tools: Any, tmp_path: Any) -> None:
    tools.require_tools()
    crashed = tools.Mesh(tmp_path / "crashed")
    try:
        tools.start_mesh(crashed.home)
        home_id = _home_id(crashed)
        crashed.kubectl("create", "configmap", "kept")
        crashed.kubectl("apply", "-f", "meshb.yaml")
        crashed.kubectl("rollout", "status", "deployment/meshb", "--timeout=60s")
        for role in ("supervise", "serve", "node"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(crashed.pid(role), signal.SIGKILL)
        crashed.pilotfish("up", "--detach")
        assert "kept" in crashed.kubectl("get", "configmaps")
        assert "2/2" in crashed.kubectl("get", "pods")
        assert crashed.pod("meshb")["status"]["containerStatuses"][0]["restartCount"] == 0
    finally:
        crashed.pilotfish("down")
    assert tools.leftovers(crashed.home, home_id) == []


def test_down_with_keep_keeps_the_objects(tools: Any, tmp_path: Any) -> None:
    tools.require_tools()
    kept = tools.Mesh(tmp_path / "kept")
    try:
        kept.pilotfish("up", "--detach")
        kept.kubectl("create", "configmap", "kept")
        kept.pilotfish("down", "--keep")
        kept.pilotfish("up", "--detach")
        assert "kept" in kept.kubectl("get", "configmaps")
    finally:
        kept.pilotfish("down")
    assert not kept.home.exists()


def test_without_the_rights_up_says_what_is_missing_and_touches_nothing(tools: Any, tmp_path: Any) -> None:
    tools.require_tools()
    home = tmp_path / "home"
    dropped = ("setpriv", "--bounding-set=-sys_admin,-net_admin", "--inh-caps=-all")
    done = tools.Mesh(home).run(*dropped, *PILOTFISH, "up", "--detach", check=False)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stdout
    assert "run as root" in done.stdout
    assert not home.exists()


def test_without_nft_up_says_how_to_get_it_and_touches_nothing(tools: Any, tmp_path: Any) -> None:
    tools.require_tools()
    home = tmp_path / "home"
    hidden = 'mount --bind /dev/null $(command -v nft || echo /usr/sbin/nft) && exec "$@"'
    done = tools.Mesh(home).run("unshare", "-m", "sh", "-c", hidden, "sh", *PILOTFISH, "up", "--detach", check=False)
    assert done.returncode == 1
    assert "apt-get install nftables" in done.stdout
    assert not home.exists()


def test_a_node_port_that_another_process_holds_is_told_on_the_service(mesh: Any, tools: Any) -> None:
    holder = _listener_on_a_node_port()
    port = holder.getsockname()[1]
    manifest = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: contested}\n"
        f"spec: {{type: NodePort, selector: {{app: none}}, ports: [{{port: 80, nodePort: {port}}}]}}\n"
    )
    try:
        mesh.apply(manifest)
        tools.eventually(
            lambda: "Address already in use" in mesh.kubectl("describe", "service", "contested"),
            "an event with Envoy's words",
        )
        conditions = mesh.get("service", "contested")["status"]["conditions"]
        assert any(c["type"] == "pilotfish.dev/Accepted" and c["status"] == "False" for c in conditions)
    finally:
        holder.close()
        mesh.kubectl("delete", "service", "contested", "--ignore-not-found")


def _listener_on_a_node_port() -> socket.socket:
    for port in range(30100, 32700):
        with contextlib.suppress(OSError):
            return socket.create_server(("0.0.0.0", port))
    pytest.fail("every node port is taken")


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_down_in_the_middle_of_up_leaves_nothing(seconds: float, tools: Any, tmp_path: Any) -> None:
    """However far `up` has come, and also what it has started that did not run yet. Too early, and `up` goes on."""
    tools.require_tools()
    other = tools.Mesh(tmp_path / "home")
    command = [*PILOTFISH, "--home", str(other.home), "up", "--detach"]
    starting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            starting.wait(seconds)
        other.pilotfish("down")
        said = starting.communicate(timeout=60)[0].decode()
        if starting.returncode:
            assert "the mesh was stopped before it was ready" in said
            assert tools.leftovers(other.home, Home(other.home).id) == []
    finally:
        starting.kill()
        starting.wait()
        other.pilotfish("down")


def test_two_ups_at_once_make_one_mesh(tools: Any, tmp_path: Any) -> None:
    tools.require_tools()
    other = tools.Mesh(tmp_path / "home")
    command = [*PILOTFISH, "--home", str(other.home), "up", "--detach"]
    ups = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    try:
        said = [each.communicate(timeout=90)[0].decode() for each in ups]
        assert [each.returncode for each in ups] == [0, 0], said
        assert sum("already up" in text for text in said) == 1
        tools.eventually(lambda: "Ready" in other.kubectl("get", "nodes", check=False).split(), "the node is ready")
    finally:
        other.pilotfish("down")


def test_two_meshes_started_at_once_take_different_ports(tools: Any, tmp_path: Any) -> None:
    tools.require_tools()
    meshes = [tools.Mesh(tmp_path / name) for name in ("one", "two")]
    commands = [[*PILOTFISH, "--home", str(each.home), "up", "--detach"] for each in meshes]
    ups = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    try:
        said = [each.communicate(timeout=120)[0].decode() for each in ups]
        assert [each.returncode for each in ups] == [0, 0], said
        one, two = (each.settings() for each in meshes)
        assert {one["apiPort"], one["xdsPort"]}.isdisjoint({two["apiPort"], two["xdsPort"]})
    finally:
        for each in meshes:
            each.pilotfish("down")
