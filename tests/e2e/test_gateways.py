"""Gateways as a user meets them: installed, injected, reached from the host by their load balancer's address."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root

INGRESS = "istio-ingressgateway"

OWN_GATEWAY = """
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: edge}
spec:
  type: LoadBalancer
  selector: {istio: edge}
  ports: [{name: status-port, port: 15021}, {name: http, port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge, namespace: edge}
spec:
  selector: {matchLabels: {istio: edge}}
  template:
    metadata:
      annotations: {inject.istio.io/templates: gateway}
      labels: {istio: edge, sidecar.istio.io/inject: "true"}
    spec:
      containers: [{name: istio-proxy, image: auto}]
"""


def external_ip(mesh: Any, name: str, namespace: str) -> str:
    ingress = mesh.get("service", name, "-n", namespace)["status"]["loadBalancer"].get("ingress") or [{}]
    return str(ingress[0].get("ip", ""))


@pytest.fixture(scope="module")
def ingress_ip(mesh: Any, tools: Any) -> str:
    """The address of the ingress gateway, which is ready."""
    mesh.kubectl("rollout", "status", f"deployment/{INGRESS}", "-n", "istio-system", "--timeout=60s")
    return str(tools.eventually(lambda: external_ip(mesh, INGRESS, "istio-system"), "the gateway's external IP"))


def test_the_ingress_gateway_is_a_pod_that_runs_a_router(mesh: Any, ingress_ip: str) -> None:
    (pod,) = mesh.get("pods", "-n", "istio-system", "-l", "istio=ingressgateway")["items"]
    (container,) = pod["spec"]["containers"]
    assert container["args"][:2] == ["proxy", "router"]
    assert container["image"].rpartition("/")[2] == "proxyv2:1.10.4"
    row = mesh.kubectl("get", "service", INGRESS, "-n", "istio-system", "--no-headers")
    assert f" {ingress_ip} " in row
    assert mesh.kubectl("exec", pod["metadata"]["name"], "-n", "istio-system", "--", "id", "-u").strip() == "1337"


def test_its_address_serves_the_host_on_the_services_ports(mesh: Any, ingress_ip: str) -> None:
    assert "HTTP/1.1 200" in mesh.curl("-i", f"http://{ingress_ip}:15021/healthz/ready")
    refused = mesh.curl(f"http://{ingress_ip}:81/", check=False)
    assert "Failed to connect" in refused or "Couldn't connect" in refused, "a port that the Service does not have"


def test_a_users_own_deployment_becomes_a_gateway(mesh: Any, tools: Any) -> None:
    mesh.kubectl("create", "namespace", "edge")
    try:
        mesh.apply(OWN_GATEWAY)
        mesh.kubectl("rollout", "status", "deployment/edge", "-n", "edge", "--timeout=60s")
        address = tools.eventually(lambda: external_ip(mesh, "edge", "edge"), "an address of its own")
        assert address != external_ip(mesh, INGRESS, "istio-system")
        assert "HTTP/1.1 200" in mesh.curl("-i", f"http://{address}:15021/healthz/ready")
    finally:
        mesh.kubectl("delete", "namespace", "edge")
