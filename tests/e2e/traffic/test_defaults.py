"""What happens without any resource but Services: passing through, between pods with and without sidecars, retries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from traffic.cases import Case, case, grpc, http, substituted

pytestmark = pytest.mark.root

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [$name.test]
"""


def test_kubectl_applies_and_deletes(site: Any) -> None:
    """The way of a user, beside which the cases take a shortcut."""
    names = {**site.names, "name": "by-kubectl"}
    entry = """  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: $b_v3}]
"""
    manifest = substituted(ENTRY + entry, names)
    assert "created" in site.mesh.kubectl("apply", "-n", "traffic", "-f", "-", stdin=manifest)
    try:
        site.settle(http("http://by-kubectl.test/", arrives={"version": "v3"}), "the entry of kubectl")
    finally:
        site.mesh.kubectl("delete", "-n", "traffic", "-f", "-", stdin=manifest)
    site.settle(http("http://by-kubectl.test/", error="Name or service not known"), "the entry is gone")


@pytest.mark.parametrize("client", ["a", "eager", "naked"])
def test_addresses_outside_the_mesh_are_reached(client: str, site: Any) -> None:
    url = "http://$outside:$outside_http/x"
    site.hold(substituted(http(url, client=client, arrives={"version": "outside"}), site.names))


def test_a_pod_without_a_sidecar_reaches_one_with(site: Any) -> None:
    with site.applied("") as names:
        step = http("http://$host/x", client="naked", arrives={"path": "/x", "headers": {"x-request-id": bool}})
        site.settle(substituted(step, names), "a Service from a pod without a sidecar")


def test_a_pod_with_a_sidecar_reaches_one_without(site: Any) -> None:
    headers = {"x-envoy-decorator-operation": None}
    step = http("http://$naked:8080/x", arrives={"version": "naked", "headers": headers})
    site.hold(substituted(step, site.names))


RETRIES = [
    case(
        "gRPC calls that are answered UNAVAILABLE are tried again, twice",
        "",
        grpc("http://$name:82", instruct={"grpc_status": 14, "fail": 2}, arrives={"attempt": 3}),
        grpc("http://$name:82", instruct={"grpc_status": 14, "fail": 3}, status=14, arrives=None),
        grpc("http://$name:82", instruct={"grpc_status": 13, "fail": 1}, status=13, arrives=None),
        settle=grpc("http://$name:82"),
    ),
    case(
        "an endpoint that refuses connections costs no request",
        ENTRY
        + """
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: $outside, ports: {http: $outside_http}}
  - {address: $outside, ports: {http: 1}}
""",
        # One after the other: of many at once, the endpoint that has none under way gets the next, again and again.
        *(http("http://$name.test/", arrives={"version": "outside"}) for _ in range(20)),
        service="",
    ),
    case(
        "what a server may have acted upon is not tried again",
        "",
        http("http://$name/", instruct={"status": 503, "fail": 1}, status=503, arrives={"attempt": 1}),
        http("http://$name/", instruct={"reset": True, "fail": 1}, status=503, arrives=None),
        settle=http("http://$name/"),
    ),
]


@pytest.mark.parametrize("case", RETRIES, ids=str)
def test_retries_by_default(case: Case, site: Any) -> None:
    site.check(case)


def test_a_harness_that_expects_the_wrong_thing_fails(site: Any) -> None:
    """So that a green table means something."""
    wrong = [
        http("http://$name/", arrives={"path": "/other"}),
        http("http://$name/", count=100, shares={"v1": 0.9, "v2": 0.1}),
        http("http://$name/", status=404),
        http("http://$name/", error="refused"),
        http("http://$name/", took=(5.0, 9.0)),
    ]
    with site.applied("") as names:
        site.settle(substituted(http("http://$name/"), names), "the Service")
        for step in wrong:
            faults = substituted(step, names).faults(site.send(substituted(step, names)))
            assert faults, json.dumps(dict(step.job))
