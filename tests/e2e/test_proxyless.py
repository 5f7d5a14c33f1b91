"""A pod without a sidecar, whose gRPC is an xDS client itself."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.root

CLIENT = """
import grpc, hello_pb2, hello_pb2_grpc
with grpc.insecure_channel("xds:///AppMeshClient.mesh:50000") as channel:
    stub = hello_pb2_grpc.MesherStub(channel)
    print(stub.SayHello(hello_pb2.HelloRequest(name="xds"), timeout=20, wait_for_ready=True))
"""

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "proxyless",
        "labels": {"sidecar.istio.io/inject": "false"},
        "annotations": {"pilotfish.dev/grpc-xds": "true"},
    },
    "spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "client", "image": "test/proxyless"}],
    },
}


def test_a_pod_calls_a_host_of_the_mesh_without_a_sidecar(hello: Any, tools: Any) -> None:
    hello.pilotfish(
        "image", "add", "test/proxyless", "--workdir", str(tools.EXAMPLE), "--", sys.executable, "-c", CLIENT
    )
    hello.apply(json.dumps(POD))
    try:
        tools.eventually(
            lambda: hello.get("pod", "proxyless")["status"].get("phase") in ("Succeeded", "Failed"), "the client ended"
        )
        log = hello.kubectl("logs", "proxyless")
        pod = hello.get("pod", "proxyless")
        assert pod["status"]["phase"] == "Succeeded", (log, pod["status"])
        assert len(pod["spec"]["containers"]) == 1
        assert "xds" in log
    finally:
        hello.kubectl("delete", "pod", "proxyless", "--ignore-not-found")
